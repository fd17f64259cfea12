//! Whether two samples differ: the test of Mann and Whitney.

/// The probability that two samples of one and the same quantity differ in rank as much as these do (two-sided, normal
/// approximation with correction for ties; for samples of 20 and more).
pub fn mann_whitney_p(one: &[f64], other: &[f64]) -> f64 {
    let (n1, n2) = (one.len() as f64, other.len() as f64);
    let n = n1 + n2;
    let mut all: Vec<(f64, bool)> =
        one.iter().map(|value| (*value, true)).chain(other.iter().map(|value| (*value, false))).collect();
    all.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (mut rank_sum, mut ties, mut begin) = (0.0, 0.0, 0);
    while begin < all.len() {
        let end = begin + all[begin..].iter().take_while(|(value, _)| *value == all[begin].0).count();
        let size = (end - begin) as f64;
        // Equal values share the mean of their ranks, which are counted from 1.
        let rank = (begin + end + 1) as f64 / 2.0;
        rank_sum += rank * all[begin..end].iter().filter(|(_, is_of_one)| *is_of_one).count() as f64;
        ties += size.powi(3) - size;
        begin = end;
    }
    let u = rank_sum - n1 * (n1 + 1.0) / 2.0;
    let variance = n1 * n2 / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - n1 * n2 / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    2.0 * upper_tail(z)
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The share of a standard normal distribution above `z`, for `z` of 0 and more (Abramowitz and Stegun 26.2.17).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let polynomial = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = polynomial.iter().rev().fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_that_of_the_tables() {
        for (z, share) in [(0.0, 0.5), (1.0, 0.158_655), (1.96, 0.024_998), (2.575_829, 0.005)] {
            assert!((upper_tail(z) - share).abs() < 1e-5, "{z}: {}", upper_tail(z));
        }
    }

    #[test]
    fn samples_that_interleave_do_not_differ_and_shifted_ones_do() {
        let even: Vec<f64> = (0..500).map(|number| f64::from(number * 2)).collect();
        let odd: Vec<f64> = (0..500).map(|number| f64::from(number * 2 + 1)).collect();
        assert!(mann_whitney_p(&even, &odd) > 0.9);
        let shifted: Vec<f64> = even.iter().map(|value| value + 80.0).collect();
        assert!(mann_whitney_p(&even, &shifted) < 0.001);
        assert_eq!(mann_whitney_p(&[1.0; 50], &[1.0; 50]), 1.0);
    }

    #[test]
    fn a_worked_example_comes_out_as_published() {
        // The example of SciPy's `mannwhitneyu`: U is 17, p by normal approximation 0.1113.
        let p = mann_whitney_p(&[19.0, 22.0, 16.0, 29.0, 24.0], &[20.0, 11.0, 17.0, 12.0]);
        assert!((p - 0.1113).abs() < 0.0001, "{p}");
    }
}

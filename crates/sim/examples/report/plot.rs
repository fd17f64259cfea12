//! Plots as SVG. Every curve has its own dashes and a legend, so that colour carries nothing alone.

use std::fmt::Write as _;

/// A name and its points.
pub(crate) type Curve<'a> = (&'a str, Vec<(f64, f64)>);

/// What is plotted.
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) across: &'a str,
    /// Whether the horizontal axis is logarithmic.
    pub(crate) logarithmic: bool,
    pub(crate) curves: &'a [Curve<'a>],
}

/// Colour and dashes of each curve.
const STYLES: [(&str, &str); 4] = [("#06c", "none"), ("#c30", "6 4"), ("#070", "2 3"), ("#909", "10 3 2 3")];

impl Plot<'_> {
    /// Draws it.
    pub(crate) fn svg(&self) -> String {
        let mut svg = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 600 380\" font-family=\"sans-serif\" font-size=\"12\">\n",
        );
        let white = "<rect width=\"600\" height=\"380\" fill=\"#fff\"/>";
        let _ = writeln!(svg, "{white}<text x=\"60\" y=\"20\" font-size=\"14\">{}</text>", self.title);
        let _ = writeln!(svg, "<path d=\"M60 90V320H550\" fill=\"none\" stroke=\"#000\"/>");
        let _ = writeln!(svg, "<text x=\"300\" y=\"365\" text-anchor=\"middle\">{}</text>", self.across);
        let top = nice(self.points().map(|(_, y)| y).filter(|y| y.is_finite()).fold(0.0, f64::max));
        self.axes(&mut svg, top);
        for ((name, points), (index, (colour, dashes))) in self.curves.iter().zip(STYLES.iter().enumerate()) {
            let points = points.iter().filter(|(_, y)| y.is_finite()).map(|(x, y)| self.place(*x, *y, top));
            let line: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let style = format!("stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" fill=\"none\" stroke-width=\"2\"");
            let _ = writeln!(svg, "<polyline points=\"{}\" {style}/>", line.join(" "));
            let (x, y) = (60 + 250 * (index % 2), 42 + 18 * (index / 2));
            let _ =
                writeln!(svg, "<path d=\"M{x} {}h30\" {style}/><text x=\"{}\" y=\"{y}\">{name}</text>", y - 4, x + 36);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String, top: f64) {
        for (x, _) in self.curves.first().map(|(_, points)| points.as_slice()).unwrap_or_default() {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"338\" text-anchor=\"middle\">{x}</text>",
                self.place(*x, 0.0, top).0
            );
        }
        for part in 0..=4 {
            let value = top * f64::from(part) / 4.0;
            // Without what the division leaves behind.
            let label = (value * 1e6).round() / 1e6;
            let height = self.place(self.lowest(), value, top).1;
            let _ = writeln!(svg, "<path d=\"M60 {height:.1}h490\" stroke=\"#ddd\"/>");
            let _ = writeln!(svg, "<text x=\"54\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", height + 4.0);
        }
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.curves.iter().flat_map(|(_, points)| points.iter().copied())
    }

    fn lowest(&self) -> f64 {
        self.points().map(|(x, _)| x).fold(f64::INFINITY, f64::min)
    }

    fn place(&self, x: f64, y: f64, top: f64) -> (f64, f64) {
        let scale = |x: f64| if self.logarithmic { x.log10() } else { x };
        let low = scale(self.lowest());
        let high = self.points().map(|(x, _)| scale(x)).fold(low + 1e-9, f64::max);
        (70.0 + (scale(x) - low) / (high - low) * 460.0, 320.0 - y / top * 220.0)
    }
}

/// The least of 1, 2, 4, 6, 8 times a power of ten that is no less.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|factor| factor * power).find(|top| *top >= value).unwrap_or(value)
}

//! The price of security: the same work with ES256 signatures and certificates, with the forgeable ones of the other experiments, and
//! with none at all.
//!
//! The three take turns, so that what else the machine does is spread over all. CPU is the thread's own, of all nodes together.

use meshtone_sim::Trust;

use crate::figures::Figures;
use crate::output::Output;
use crate::scene::Scene;

const NODES: usize = 50;
const RECORDS: usize = 200;
const READS: usize = 400;
const ROUNDS: u64 = 5;

const TRUSTS: [(&str, Trust); 3] =
    [("ES256", Trust::Signed), ("forgeable stand-in", Trust::Forgeable), ("none", Trust::Nobody)];

/// What one round cost, each per operation.
struct Cost {
    write_us: f64,
    write_bytes: f64,
    write_messages: f64,
    read_us: f64,
    read_bytes: f64,
    read_messages: f64,
    read_p50_ms: f64,
}

pub(crate) fn run(_most: usize, output: &mut Output) {
    let mut costs: [Vec<Cost>; 3] = Default::default();
    for round in 0..ROUNDS {
        for ((_, trust), costs) in TRUSTS.into_iter().zip(&mut costs) {
            costs.push(measure(round, trust));
        }
    }
    let rows: Vec<String> = TRUSTS.iter().zip(&costs).map(|((name, _), costs)| row(name, costs)).collect();
    let header = "signatures,cpu_us_per_write,bytes_per_write,messages_per_write,\
                  cpu_us_per_read,bytes_per_read,messages_per_read,first_hit_p50_ms";
    output.csv("security", header, &rows);
}

fn measure(seed: u64, trust: Trust) -> Cost {
    let mut scene = Scene::trusting(seed, NODES, trust);
    let all = scene.overlay.network.alive();
    let (before, cpu) = (scene.overlay.network.traffic(), cpu_us());
    scene.store(RECORDS, &all);
    let (stored, stored_cpu) = (scene.overlay.network.traffic(), cpu_us());
    let reads = scene.reads(READS, &all);
    let (read, read_cpu) = (scene.overlay.network.traffic(), cpu_us());
    let (writing, reading) = (stored.since(before), read.since(stored));
    Cost {
        write_us: (stored_cpu - cpu) / RECORDS as f64,
        write_bytes: writing.bytes as f64 / RECORDS as f64,
        write_messages: writing.messages as f64 / RECORDS as f64,
        read_us: (read_cpu - stored_cpu) / READS as f64,
        read_bytes: reading.bytes as f64 / READS as f64,
        read_messages: reading.messages as f64 / READS as f64,
        read_p50_ms: reads.times_ms.at(50),
    }
}

fn row(name: &str, costs: &[Cost]) -> String {
    let median = |figure: fn(&Cost) -> f64| Figures::new(costs.iter().map(figure)).at(50);
    format!(
        "{name},{:.0},{:.0},{:.1},{:.0},{:.0},{:.1},{:.1}",
        median(|cost| cost.write_us),
        median(|cost| cost.write_bytes),
        median(|cost| cost.write_messages),
        median(|cost| cost.read_us),
        median(|cost| cost.read_bytes),
        median(|cost| cost.read_messages),
        median(|cost| cost.read_p50_ms)
    )
}

/// Returns how long this thread has been on a processor, in microseconds (Linux); NaN where that is not told.
fn cpu_us() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1000.0
}

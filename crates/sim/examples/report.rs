//! Measures the overlay in virtual time and writes what it found to a folder: CSV files, `summary.csv`, plots.
//!
//! `report FOLDER [NODES]`: NODES is the largest overlay simulated.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a tool for the developer's terminal")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay, Seeded, liars};

const KIND: Kind = Kind::SipRegistration;
const RECORDS: usize = 100;
const READS: usize = 400;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("usage: report FOLDER [NODES]"));
    let most = arguments.next().map_or(10_000, |text| text.parse().expect("NODES is a number"));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let mut summary = String::from("name,value,threshold,holds\n");
    sizes(&folder, most, &mut summary);
    silence(&folder, most.min(256), &mut summary);
    lies(&folder, most.min(500), &mut summary);
    write(&folder, "summary.csv", &summary);
}

/// What the reads of one run took, each list sorted.
struct Reads {
    found: usize,
    hops: Vec<f64>,
    requests: Vec<f64>,
    times_ms: Vec<f64>,
}

/// Builds an overlay, stores, lets `spoil` do its worst with the nodes given to it, and reads on the others.
fn reads(nodes: usize, spoilt_percent: usize, paths: usize, spoil: impl Fn(&mut Overlay, &[usize])) -> Reads {
    let config = Config { paths, ..Config::default() };
    let mut overlay = Overlay::new(nodes as u64, Conditions::default(), config);
    overlay.grow(nodes, &["example.org"]);
    let mut random = Seeded::new(51);
    let mut honest: Vec<usize> = (0..nodes).collect();
    let spoilt: Vec<usize> =
        (0..nodes * spoilt_percent / 100).map(|_| honest.remove(random.below(honest.len()))).collect();
    for record in 0..RECORDS {
        let (writer, name) = (honest[random.below(honest.len())], format!("user{record}@example.org"));
        let stored = overlay.store(writer, KIND, &name, registration(1), Duration::from_secs(7200));
        stored.expect("nothing is spoilt yet");
    }
    spoil(&mut overlay, &spoilt);
    let mut reads = Reads { found: 0, hops: Vec::new(), requests: Vec::new(), times_ms: Vec::new() };
    for _ in 0..READS {
        let (reader, name) = (honest[random.below(honest.len())], format!("user{}@example.org", random.below(RECORDS)));
        let before = overlay.network.elapsed();
        if let Ok(fetched) = overlay.fetch_first(reader, KIND, &name)
            && !fetched.entries.is_empty()
        {
            reads.found += 1;
            reads.hops.push(fetched.hops.into());
            reads.requests.push(fetched.requests.into());
            reads.times_ms.push((overlay.network.elapsed() - before).as_secs_f64() * 1000.0);
        }
    }
    for figures in [&mut reads.hops, &mut reads.requests, &mut reads.times_ms] {
        figures.sort_by(f64::total_cmp);
    }
    reads
}

fn sizes(folder: &Path, most: usize, summary: &mut String) {
    let mut csv = String::from("nodes,hops_p50,hops_p99,requests_p50,requests_p99,found_percent\n");
    let (mut hops, mut requests) = (Vec::new(), Vec::new());
    for nodes in [10, 30, 100, 300, 1000, 3000, 10_000].into_iter().filter(|nodes| *nodes <= most) {
        let reads = reads(nodes, 0, 8, |_, _| {});
        let (hops_p99, requests_p99) = (at(&reads.hops, 99), at(&reads.requests, 99));
        let (hops_p50, requests_p50) = (at(&reads.hops, 50), at(&reads.requests, 50));
        let row = format!("{nodes},{hops_p50},{hops_p99},{requests_p50},{requests_p99},{}", percent(reads.found));
        println!("{row}");
        let _ = writeln!(csv, "{row}");
        hops.push((nodes as f64, hops_p99));
        requests.push((nodes as f64, requests_p99));
    }
    let (reached, hops_p99) = hops.last().copied().unwrap_or_default();
    let requests_p99 = requests.last().map_or(0.0, |(_, p99)| *p99);
    judge(summary, &format!("hops p99 at {reached} nodes"), hops_p99, 6.0, hops_p99 <= 6.0);
    judge(summary, &format!("requests p99 at {reached} nodes"), requests_p99, 12.0, requests_p99 <= 12.0);
    write(folder, "size.csv", &csv);
    let curves = [("hops p99", hops), ("requests p99", requests)];
    write(folder, "size.svg", &plot("Hops and requests of a read", "nodes (logarithmic)", true, &curves));
}

fn silence(folder: &Path, nodes: usize, summary: &mut String) {
    let mut csv = String::from("silent_percent,first_hit_p50_ms,first_hit_p99_ms,found_percent\n");
    let mut curve = [("p50 (ms)", Vec::new()), ("p99 (ms)", Vec::new())];
    for silent in [0, 10, 25, 50] {
        let reads =
            reads(nodes, silent, 8, |overlay, spoilt| spoilt.iter().for_each(|node| overlay.network.kill(*node)));
        let (p50, p99, found) = (at(&reads.times_ms, 50), at(&reads.times_ms, 99), percent(reads.found));
        println!("{silent} % silent: {p50:.0} ms, {p99:.0} ms, {found} % found");
        let _ = writeln!(csv, "{silent},{p50:.1},{p99:.1},{found}");
        curve[0].1.push((silent as f64, p50));
        curve[1].1.push((silent as f64, p99));
        if silent == 25 {
            judge(summary, &format!("first hit p99 in ms with 25 % of {nodes} silent"), p99, 500.0, p99 < 500.0);
            judge(summary, &format!("found in % with 25 % of {nodes} silent"), found, 99.9, found >= 99.9);
        }
    }
    write(folder, "silent.csv", &csv);
    write(folder, "silent.svg", &plot("Time to the first hit", "silent nodes (%)", false, &curve));
}

fn lies(folder: &Path, nodes: usize, summary: &mut String) {
    let mut csv = String::from("liars_percent,found_percent_one_path,found_percent_disjoint\n");
    let mut curve = [("one path (%)", Vec::new()), ("disjoint paths (%)", Vec::new())];
    for lying in [0, 10, 20, 30, 40] {
        let [one, many] = [1, 8].map(|paths| percent(reads(nodes, lying, paths, liars::corrupt).found));
        println!("{lying} % liars: {one} % found over one path, {many} % over disjoint ones");
        let _ = writeln!(csv, "{lying},{one},{many}");
        curve[0].1.push((lying as f64, one));
        curve[1].1.push((lying as f64, many));
        for (share, least) in [(20, 99.0), (30, 90.0)] {
            if lying == share {
                judge(summary, &format!("found in % with {share} % liars of {nodes}"), many, least, many >= least);
            }
        }
    }
    write(folder, "liars.csv", &csv);
    write(folder, "liars.svg", &plot("Reads that find what there is", "liars (%)", false, &curve));
}

fn judge(summary: &mut String, name: &str, value: f64, threshold: f64, holds: bool) {
    let _ = writeln!(summary, "{name},{value:.1},{threshold},{holds}");
}

fn percent(found: usize) -> f64 {
    found as f64 * 100.0 / READS as f64
}

fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len().saturating_sub(1) * percent).div_ceil(100)).copied().unwrap_or(f64::NAN)
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the folder can be written to");
}

/// Draws curves with a legend; the first in solid, the second in dashes, so that colour carries nothing alone.
fn plot(title: &str, across: &str, logarithmic: bool, curves: &[(&str, Vec<(f64, f64)>)]) -> String {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let scale = |x: f64| if logarithmic { x.log10() } else { x };
    let low = points().map(|(x, _)| scale(*x)).fold(f64::INFINITY, f64::min);
    let high = points().map(|(x, _)| scale(*x)).fold(low + 1e-9, f64::max);
    let top = points().map(|(_, y)| *y).filter(|y| y.is_finite()).fold(1.0, f64::max) * 1.1;
    let place = |x: f64, y: f64| (60.0 + (scale(x) - low) / (high - low) * 480.0, 300.0 - y / top * 250.0);
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 600 360\" font-family=\"sans-serif\" font-size=\"12\">\n",
    );
    let _ = writeln!(svg, "<rect width=\"600\" height=\"360\" fill=\"#fff\"/><text x=\"60\" y=\"24\">{title}</text>");
    let _ = writeln!(svg, "<path d=\"M60 40V300H550\" fill=\"none\" stroke=\"#000\"/>");
    let _ = writeln!(svg, "<text x=\"300\" y=\"345\" text-anchor=\"middle\">{across}</text>");
    for (x, _) in curves.first().map(|(_, points)| points.as_slice()).unwrap_or_default() {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"318\" text-anchor=\"middle\">{x}</text>", place(*x, 0.0).0);
    }
    for part in 0..=4 {
        let y = top * f64::from(part) / 4.0;
        let _ = writeln!(svg, "<text x=\"52\" y=\"{:.1}\" text-anchor=\"end\">{y:.0}</text>", place(1.0, y).1 + 4.0);
    }
    for (index, (name, points)) in curves.iter().enumerate() {
        let (colour, dashes) = if index == 0 { ("#06c", "none") } else { ("#c30", "6 4") };
        let line: Vec<String> = points
            .iter()
            .filter(|(_, y)| y.is_finite())
            .map(|(x, y)| place(*x, *y))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let line = line.join(" ");
        let style = format!("stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" fill=\"none\" stroke-width=\"2\"");
        let _ = writeln!(svg, "<polyline points=\"{line}\" {style}/>");
        let y = 24 + 16 * index;
        let _ = writeln!(svg, "<path d=\"M400 {}h30\" {style}/><text x=\"436\" y=\"{y}\">{name}</text>", y - 4);
    }
    svg.push_str("</svg>\n");
    svg
}

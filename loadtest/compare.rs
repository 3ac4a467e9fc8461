//! The same load against Capstan and against nginx with its RTMP module, in turn on the same machine: A B A B.

use serde::Serialize;

use crate::Arguments;
use crate::report::Report;
use crate::server;

#[derive(Serialize)]
pub struct Comparison {
    pub runs: Vec<Run>,
    /// Medians of Capstan over those of nginx.
    pub ratios: Ratios,
}

#[derive(Serialize)]
pub struct Run {
    pub server: &'static str,
    #[serde(flatten)]
    pub report: Report,
}

#[derive(Serialize)]
pub struct Ratios {
    pub cpu_s_per_gb: f64,
    pub steady_cpu_s_per_gb: Option<f64>,
    pub rss: f64,
    pub rss_beyond_empty: Option<f64>,
    pub mb_per_s: f64,
}

/// Runs the load `arguments.rounds` times against each.
pub fn compare(arguments: &Arguments) -> Result<Comparison, String> {
    let streams = crate::groups(arguments)?.iter().map(|group| group.streams).sum();
    let flv = ["flv".to_owned()];
    let mut runs = Vec::new();
    for round in 0..arguments.rounds.max(1) {
        for peer in [false, true] {
            let server = if peer {
                server::nginx(&arguments.disk, arguments.server_core.first().copied(), streams)?
            } else {
                server::capstan(arguments.capstan.as_deref(), &arguments.disk, &arguments.server_core, &flv, streams)?
            };
            eprintln!("-- round {} of {}: {}", round + 1, arguments.rounds, server.name);
            let asked = Arguments { verify: Some(server.recordings.clone()), formats: flv.to_vec(), ..arguments.clone() };
            let plan = crate::plan(&asked, &server.target)?;
            // The peer stamps its files with times of its own; what it lost or changed counts alike.
            let report = crate::load(&plan, Some(&server.pids), &asked, !peer)?;
            eprint!("{}", report.table());
            if report.interrupted {
                return Err("interrupted".to_owned());
            }
            runs.push(Run { server: server.name, report });
        }
    }
    let ratio = |read: &dyn Fn(&Report) -> Option<f64>| {
        let median = |name: &str| {
            let mut values: Vec<f64> = runs.iter().filter(|run| run.server == name).filter_map(|run| read(&run.report)).collect();
            values.sort_by(f64::total_cmp);
            Some((values.get(values.len().checked_sub(1)? / 2)? + values.get(values.len() / 2)?) / 2.0)
        };
        Some(median("capstan")? / median("nginx-rtmp").filter(|value| *value > 0.0)?)
    };
    let ratios = Ratios {
        cpu_s_per_gb: ratio(&|report| report.cpu_s_per_gb).ok_or("nothing was measured")?,
        steady_cpu_s_per_gb: ratio(&|report| Some(report.server.as_ref()?.steady.as_ref()?.cpu_s_per_gb)),
        rss: ratio(&|report| report.server.as_ref().map(|server| server.rss_mib_max)).ok_or("nothing was measured")?,
        rss_beyond_empty: ratio(&|report| report.server.as_ref().map(|server| server.rss_mib_max - server.rss_mib_before)),
        mb_per_s: ratio(&|report| Some(report.mb_per_s)).ok_or("nothing was measured")?,
    };
    Ok(Comparison { runs, ratios })
}

impl Comparison {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "\n{:<12} {:>10} {:>12} {:>9} {:>12} {:>10} {:>9} {:>8}\n",
            "server", "CPU s/GB", "steady s/GB", "RSS MiB", "beyond empty", "MB/s", "lag p99", "missing"
        );
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        for Run { server, report } in &self.runs {
            let seen = report.server.as_ref();
            text.push_str(&format!(
                "{server:<12} {:>10} {:>12} {:>9} {:>12} {:>10.1} {:>9} {:>8}\n",
                number(report.cpu_s_per_gb),
                number(seen.and_then(|seen| seen.steady.as_ref()).map(|steady| steady.cpu_s_per_gb)),
                number(seen.map(|seen| seen.rss_mib_max)),
                number(seen.map(|seen| seen.rss_mib_max - seen.rss_mib_before)),
                report.mb_per_s,
                number(report.lag_ms.map(|lag| lag.p99)),
                report.verified.as_ref().map_or("-".to_owned(), |verified| verified.missing_frames.to_string()),
            ));
        }
        let Ratios { cpu_s_per_gb, steady_cpu_s_per_gb, rss, rss_beyond_empty, mb_per_s } = &self.ratios;
        text.push_str(&format!(
            "{:<12} {:>10} {:>12} {:>9} {:>12} {:>10.2}   medians, capstan / nginx-rtmp\n",
            "ratio",
            number(Some(*cpu_s_per_gb)),
            number(*steady_cpu_s_per_gb),
            number(Some(*rss)),
            number(*rss_beyond_empty),
            mb_per_s
        ));
        text
    }

    /// Capstan lost nothing; what the peer lost is in the table.
    pub fn is_good(&self) -> bool {
        self.runs.iter().filter(|run| run.server == "capstan").all(|run| run.report.is_good())
    }
}

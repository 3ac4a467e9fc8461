use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use super::*;

/// Every sample by its full name with labels. Checks the format on the way: HELP and TYPE before the samples, no family twice, no
/// sample twice, numbers that are numbers, histograms whose buckets grow and end at the count.
fn check(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind, mut last_bucket) = (String::new(), String::new(), 0.0);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(families.insert(name.to_owned()), "{name} begins twice");
            assert!(help.ends_with('.'), "{line}");
            family = name.to_owned();
            kind.clear();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, is) = rest.split_once(' ').expect("a type");
            assert_eq!(name, family);
            assert!(["counter", "gauge", "histogram"].contains(&is), "{line}");
            assert_eq!(is == "counter", name.ends_with("_total"), "{line}");
            kind = is.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().expect("a number");
            let name = series.split('{').next().expect("a name");
            let part = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} stands in {family}"));
            match (kind.as_str(), part) {
                ("histogram", "_bucket") => {
                    assert!(value >= last_bucket, "{line}");
                    last_bucket = value;
                }
                ("histogram", "_sum") => {}
                ("histogram", "_count") => assert_eq!(value, std::mem::take(&mut last_bucket), "{line}"),
                (_, "") => {}
                _ => panic!("{line} does not belong to a {kind}"),
            }
            assert!(samples.insert(series.to_owned(), value).is_none(), "{line} is there twice");
        }
    }
    samples
}

#[test]
fn everything_counted_is_in_the_text() {
    let metrics = Metrics::new(2);
    let (first, second) = (metrics.core(0), metrics.core(1));
    for core in [&first, &second] {
        core.connection_opened();
        core.publication_began();
        {
            core.frames(Track::Video, 1);
            core.media_bytes(1_000)
        };
        {
            core.frames(Track::Audio, 1);
            core.media_bytes(10)
        };
        core.record_tick_pass(2_000_000);
    }
    first.publication_ended(PublicationEnd::Replaced);
    first.publication_began();
    second.publication_ended(PublicationEnd::Closed);
    second.connection_error(ConnectionError::NotRtmp);
    second.frames_dropped(DropReason::NoBlock, 7);
    second.frames_late(1);
    second.unsupported_codec("HEVC");
    second.unsupported_codec("\"}\nevil 1");
    second.set_blocks(3, 64);
    second.record_recv_to_stored(50_000_000);
    metrics.record_recv_to_stored(150_000_000);
    metrics.file_opened();
    metrics.file_opened();
    metrics.file_closed();
    metrics.file_finished(Format::Mp4);
    metrics.file_failed(FileFailure::DiskFull);
    metrics.disk("/first").record_step(DiskStep::Sync, 4_000_000_000);
    metrics.disk("/second").record_queue_wait(20_000_000);
    // Two connections for half a second, then one for a quarter.
    for (connections, ms) in [(2, 1_000), (1, 1_500), (0, 1_750), (5, 9_000)] {
        second.set_blocked(connections, MonoTime::from_millis(ms));
    }
    metrics.register_disk_queue("/a\"b\\c\nd", Box::new(|| 5.0));
    metrics.register_gauge("uptime_seconds", "Since the start.", Box::new(|| 1.5));
    metrics.register_catalog_queue(Box::new(|| 2.0));
    metrics.register_disk_queue("/second", Box::new(|| 6.0));

    let text = metrics.render();
    let samples = check(&text);
    let expected = [
        ("capstan_publishers{core=\"0\"}", 1.0),
        ("capstan_publishers{core=\"1\"}", 0.0),
        ("capstan_connections_total", 2.0),
        ("capstan_connection_errors_total{reason=\"not_rtmp\"}", 1.0),
        ("capstan_publications_total", 3.0),
        ("capstan_publication_ends_total{reason=\"replaced\"}", 1.0),
        ("capstan_publication_ends_total{reason=\"closed\"}", 1.0),
        ("capstan_publication_ends_total{reason=\"idle\"}", 0.0),
        ("capstan_frames_total{track=\"video\"}", 2.0),
        ("capstan_media_bytes_total", 2_020.0),
        ("capstan_dropped_frames_total{reason=\"no_block\"}", 7.0),
        ("capstan_late_frames_total", 1.0),
        ("capstan_unsupported_codec_total{codec=\"hevc\"}", 1.0),
        ("capstan_unsupported_codec_total{codec=\"other\"}", 1.0),
        ("capstan_blocks_free{core=\"1\"}", 3.0),
        ("capstan_blocks{core=\"1\"}", 64.0),
        ("capstan_open_files", 1.0),
        ("capstan_files_finished_total{format=\"mp4\"}", 1.0),
        ("capstan_files_failed_total{reason=\"disk_full\"}", 1.0),
        ("capstan_disk_queue_depth{folder=\"/a\\\"b\\\\c\\nd\"}", 5.0),
        ("capstan_disk_queue_depth{folder=\"/second\"}", 6.0),
        ("capstan_catalog_queue_depth", 2.0),
        ("capstan_uptime_seconds", 1.5),
        ("capstan_recv_to_stored_seconds_count", 2.0),
        ("capstan_recv_to_stored_seconds_sum", 0.2),
        ("capstan_recv_to_stored_seconds_bucket{le=\"0.1\"}", 1.0),
        ("capstan_recv_to_stored_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("capstan_recv_to_stored_max_seconds", 0.15),
        ("capstan_recv_to_stored_quantile_seconds{quantile=\"0.999\"}", 0.15),
        ("capstan_tick_pass_seconds_count", 2.0),
        ("capstan_disk_step_seconds_bucket{folder=\"/first\",step=\"sync\",le=\"5\"}", 1.0),
        ("capstan_disk_step_seconds_bucket{folder=\"/first\",step=\"sync\",le=\"2.5\"}", 0.0),
        ("capstan_disk_step_max_seconds{folder=\"/first\",step=\"sync\"}", 4.0),
        ("capstan_disk_step_seconds_count{folder=\"/second\",step=\"sync\"}", 0.0),
        ("capstan_disk_queue_wait_seconds_count{folder=\"/second\"}", 1.0),
        ("capstan_core_blocked_seconds_total{core=\"0\"}", 0.0),
        ("capstan_core_blocked_seconds_total{core=\"1\"}", 1.25),
        ("capstan_blocked_publishers{core=\"1\"}", 5.0),
    ];
    for (series, value) in expected {
        assert_eq!(samples.get(series), Some(&value), "{series} in\n{text}");
    }
    assert_eq!(metrics.publishers(), 1);
    assert!(!text.contains("evil"));
}

#[test]
fn nothing_counted_yet_is_a_complete_text_too() {
    let samples = check(&Metrics::new(1).render());
    assert!(samples.values().all(|value| *value == 0.0));
    assert!(samples.contains_key("capstan_dropped_frames_total{reason=\"no_block\"}"), "absent series cannot raise an alarm");
}

#[test]
fn what_is_registered_adds_no_series_without_bound() {
    let metrics = Metrics::new(1);
    let before = check(&metrics.render()).len();
    let core = metrics.core(0);
    for index in 0..1_000u16 {
        core.unsupported_codec(&index.to_string());
    }
    assert_eq!(check(&metrics.render()).len(), before);
}

#[test]
#[should_panic(expected = "the counters of core 1 have a writer")]
fn a_core_has_one_writer() {
    let metrics = Metrics::new(2);
    let _writer = metrics.core(1);
    metrics.core(1);
}

#[test]
#[should_panic(expected = "is registered")]
fn a_gauge_is_registered_once() {
    let metrics = Metrics::new(1);
    metrics.register_catalog_queue(Box::new(|| 0.0));
    metrics.register_catalog_queue(Box::new(|| 0.0));
}

#[test]
fn counts_of_several_threads_add_up_while_somebody_reads() {
    const COUNT: u64 = 20_000;
    let metrics = Metrics::new(2);
    thread::scope(|scope| {
        for index in 0..2 {
            let (core, disk) = (metrics.core(index), metrics.disk("/data"));
            scope.spawn(move || {
                for count in 0..COUNT {
                    {
                        core.frames(Track::Video, 1);
                        core.media_bytes(3)
                    };
                    core.record_tick_pass(count);
                    disk.record_step(DiskStep::Write, count);
                }
            });
        }
        for _ in 0..3 {
            check(&metrics.render());
        }
    });
    let samples = check(&metrics.render());
    assert_eq!(samples["capstan_frames_total{track=\"video\"}"], 2.0 * COUNT as f64);
    assert_eq!(samples["capstan_media_bytes_total"], 6.0 * COUNT as f64);
    assert_eq!(samples["capstan_tick_pass_seconds_count"], 2.0 * COUNT as f64);
    assert_eq!(samples["capstan_disk_step_seconds_count{folder=\"/data\",step=\"write\"}"], 2.0 * COUNT as f64);
}

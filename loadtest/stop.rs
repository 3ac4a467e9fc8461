//! Ctrl-C: the publications end in order, what was sent is verified, the report is written and servers of this program's own are stopped and cleared away.

use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Listens to SIGINT and SIGTERM from now on.
pub fn listen() -> Result<(), String> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("listening to signals: {error}"))?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            match ASKED.fetch_add(1, Ordering::Relaxed) {
                0 => eprintln!("\nloadtest: the publications end; once more: without looking at the recordings"),
                1 => {}
                // Whoever asks three times gets what he wants, and keeps what lies on the disk.
                _ => std::process::exit(130),
            }
        }
    });
    Ok(())
}

/// The load is to end.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed) > 0
}

/// Nothing is waited for any more.
pub fn is_urgent() -> bool {
    ASKED.load(Ordering::Relaxed) > 1
}

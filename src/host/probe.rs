//! The wire format of `probe.sh`: [`parse`] reads what the script prints, [`render`] prints what the script would (for
//! rehearsal).

use super::HostSeen;

/// Reads the output of the probe script.
///
/// # Errors
/// A sentence that says which line could not be understood.
pub fn parse(_output: &[u8]) -> Result<HostSeen, String> {
    todo!()
}

/// Prints `seen` the way the probe script does.
pub fn render(_seen: &HostSeen) -> Vec<u8> {
    todo!()
}

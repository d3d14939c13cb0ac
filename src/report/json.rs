//! JSON lines for programs: the contract, and nothing else.

use std::io::Write;

use crate::engine::event::{Event, Reporter};

/// Writes the events of the contract, one JSON object a line.
pub struct JsonReporter<W> {
    out: W,
}

impl<W: Write + Send> JsonReporter<W> {
    /// A reporter that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

/// Whether an event is part of the contract.
fn is_public(event: &Event) -> bool {
    match event {
        Event::RunStarted { .. }
        | Event::ModulePlanned { .. }
        | Event::ActionStarted { .. }
        | Event::ActionFinished { .. }
        | Event::ModuleFinished { .. }
        | Event::RunFinished { .. } => true,
        Event::Progress { .. } | Event::Note { .. } => false,
    }
}

impl<W: Write + Send> Reporter for JsonReporter<W> {
    fn event(&mut self, event: &Event) {
        if !is_public(event) {
            return;
        }
        // An event is plain data and always has a JSON form.
        let Ok(mut line) = serde_json::to_string(event) else { return };
        line.push('\n');
        // A reader that cannot take it must not stop a run that changes servers.
        let _ = self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush());
    }
}

//! How an error at the top reads.

use std::error::Error;

use super::exit::CliError;
use super::style::{Paint, Style, harmless, indent};

/// `error: <message>`, the causes that say something new, the output that belongs to it, and what to do.
pub fn render(error: &CliError, style: Style) -> String {
    if let Some(text) = &error.rendered {
        return harmless(text.trim_end()) + "\n";
    }
    let message = harmless(error.message.trim_end());
    let mut text = format!("{} {}\n", style.paint(Paint::Bad, "error:"), hanging(&message, "error: ".len()));
    let mut said = message;
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = harmless(error.to_string().trim_end());
        // Many errors repeat their source in their own words.
        if !said.contains(&message) {
            let label = "  caused by: ";
            text += &format!("{}{}\n", style.paint(Paint::Faint, label), hanging(&message, label.len()));
        }
        said = message;
        cause = error.source();
    }
    if let Some(output) = &error.output {
        text += &indent(&harmless(output), 4);
    }
    if let Some(hint) = &error.hint {
        text += &format!("{} {}\n", style.paint(Paint::Place, "hint:"), hanging(&harmless(hint), "hint: ".len()));
    }
    text
}

/// `warning: <message>`.
pub fn warning(message: &str, style: Style) -> String {
    let label = style.paint(Paint::Warn, "warning:");
    format!("{label} {}\n", hanging(&harmless(message.trim_end()), "warning: ".len()))
}

/// The text with every line but the first moved to the right.
fn hanging(text: &str, blanks: usize) -> String {
    indent(text, blanks).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::FailureInfo;
    use crate::report::exit::ExitCode;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn a_chain_is_told_once() {
        let root = Layer { text: "Permission denied (os error 13)", source: None };
        let middle = Layer { text: "cannot open: Permission denied (os error 13)", source: Some(Box::new(root)) };
        let error = CliError::new(ExitCode::Usage, "cannot read project.yaml").caused_by(middle).hint("check it");
        assert_eq!(
            render(&error, Style::PLAIN),
            "error: cannot read project.yaml
  caused by: cannot open: Permission denied (os error 13)
hint: check it
"
        );
    }

    #[test]
    fn output_is_indented_and_harmless() {
        let error = FailureInfo {
            message: "master: `systemctl start k3s` ended with code 1".into(),
            output: Some("\x1b[31mJob failed\x1b[0m\n\n  see journal\n".into()),
            hint: None,
        };
        assert_eq!(
            render(&error.into(), Style::PLAIN),
            "error: master: `systemctl start k3s` ended with code 1
    Job failed

      see journal
"
        );
    }

    #[test]
    fn more_lines_of_a_message_stand_below_the_first() {
        let error = CliError::usage("two things:\n- one\n- two").hint("first\nsecond");
        assert_eq!(
            render(&error, Style::PLAIN),
            "error: two things:\n       - one\n       - two\nhint: first\n      second\n"
        );
        let colours = Style { colour: true, width: None };
        assert_eq!(warning("no log", colours), "\x1b[33mwarning:\x1b[0m no log\n");
    }
}

//! The order of modules: a graph by what they require. `all` is that graph, not a list in code.

use std::collections::BTreeSet;

use thiserror::Error;

use super::module::AnyModule;

/// Why modules cannot be put in order.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OrderError {
    /// There is no module of that name.
    #[error("unknown module `{name}`{}; the modules are: {known}", nearest.as_ref().map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// The most similar name there is.
        nearest: Option<String>,
        /// All names.
        known: String,
    },
}

/// Which modules a command names.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `all` or names; empty means all.
    pub names: Vec<String>,
    /// Leave out everything that comes before this one.
    pub from: Option<String>,
    /// Leave these out.
    pub skip: Vec<String>,
}

/// All modules in an order in which each comes after what it requires; otherwise as registered.
pub fn topological(modules: &[Box<dyn AnyModule>]) -> Vec<usize> {
    let mut done = BTreeSet::new();
    let mut order = Vec::new();
    // Each round takes the first module whose requirements are met; registered requirements form no cycle (tested).
    while order.len() < modules.len() {
        let next = modules.iter().enumerate().find(|(_, m)| {
            !done.contains(m.name())
                && m.requires().iter().all(|r| done.contains(r) || !modules.iter().any(|m| m.name() == *r))
        });
        let Some((index, module)) = next else { break };
        done.insert(module.name());
        order.push(index);
    }
    order
}

/// The chosen modules, in order.
///
/// # Errors
/// Where a name is unknown.
pub fn select(modules: &[Box<dyn AnyModule>], selection: &Selection) -> Result<Vec<usize>, OrderError> {
    let known = |name: &str| {
        if name == "all" || modules.iter().any(|m| m.name() == name) {
            return Ok(());
        }
        let nearest = modules
            .iter()
            .map(|m| (strsim::damerau_levenshtein(m.name(), name), m.name()))
            .filter(|(distance, _)| *distance <= 2)
            .min()
            .map(|(_, n)| n.to_owned());
        let known = modules.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ");
        Err(OrderError::Unknown { name: name.to_owned(), nearest, known })
    };
    for name in selection.names.iter().chain(&selection.from).chain(&selection.skip) {
        known(name)?;
    }
    let all = selection.names.is_empty() || selection.names.iter().any(|n| n == "all");
    let order = topological(modules);
    let start = selection
        .from
        .as_ref()
        .and_then(|from| order.iter().position(|i| modules[*i].name() == from))
        .unwrap_or_default();
    Ok(order
        .into_iter()
        .skip(start)
        .filter(|i| all || selection.names.iter().any(|n| n == modules[*i].name()))
        .filter(|i| !selection.skip.iter().any(|n| n == modules[*i].name()))
        .collect())
}

//! The rehearsed world: its state behind one lock, its clock, its faults, and a record of what passed.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::api::Api;
use super::faults::{Counts, Fault, Plan, Point};
use super::persist::{self, Folder, StateError};
use super::state::{ClusterState, EPOCH_MS, HostState, State};
use super::{machine, systemd};
use crate::project::Project;

/// How many bytes the record keeps; older entries go first.
const RECORD_LIMIT: usize = 8 << 20;

/// How much time passes between two runs of one world.
const BETWEEN_RUNS_MS: i64 = 60_000;

/// What kind of text was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Arguments of programs: everybody on a server can read them.
    Argv,
    /// What programs wrote to standard output. Probes show files, so secrets may stand here.
    Stdout,
    /// What programs wrote to standard error.
    Stderr,
    /// Lines of units' journals.
    Journal,
    /// Requests to the API: method, path and query.
    Api,
    /// Addresses of downloads.
    Download,
    /// What was asked for and is not simulated. Must stay empty.
    NotSimulated,
}

/// One recorded text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kept: Kept,
    /// The host it belongs to; empty for downloads.
    pub host: String,
    /// The text.
    pub text: String,
}

/// One connection to a host: everything on it ends when it breaks.
pub(super) type Line = watch::Sender<bool>;

/// Everything but the state itself: what lives only as long as the process.
#[derive(Default)]
struct Running {
    /// The running API of each cluster.
    apis: BTreeMap<String, Api>,
    /// When the clock was last set, and to what.
    started: Option<(Instant, i64)>,
    lines: Vec<(String, Weak<Line>)>,
    tunnels: Vec<(String, Weak<Line>)>,
    /// Who holds the run lock of a host: the number of the holding program.
    locks: BTreeMap<String, u64>,
    plan: Plan,
    counts: Counts,
    trace: Vec<String>,
    records: VecDeque<Record>,
    recorded: usize,
    folder: Option<Folder>,
    save_error: Option<(String, String)>,
}

struct Inner {
    state: Mutex<State>,
    running: Mutex<Running>,
    /// Counts changes of the agenda.
    changed: watch::Sender<u64>,
    killed: watch::Sender<bool>,
}

/// A world that exists only in memory. Cloning shares it.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

impl World {
    /// Fresh servers for every node of a project.
    pub fn new(project: &Project) -> Self {
        Self::with_state(machine::fresh(project), None)
    }

    /// The world kept in a folder, or a fresh one that will be kept there. Nodes that are new in the project are added.
    ///
    /// # Errors
    /// [`StateError`] where the folder cannot be used, another rehearsal uses it, or its state cannot be understood.
    pub fn open(project: &Project, folder: &Path) -> Result<Self, StateError> {
        let (folder, kept) = persist::open(folder)?;
        let mut state = kept.unwrap_or_default();
        if state.now_ms == 0 {
            state.now_ms = EPOCH_MS;
        }
        add_missing(&mut state, project);
        // Programs ended with the process that rehearsed, and with them what the lock's holder says of itself.
        for host in state.hosts.values_mut() {
            host.remove("/run/xgenctl/holder");
        }
        let world = Self::with_state(state, Some(folder));
        world.save();
        match world.save_error() {
            Some((path, reason)) => Err(StateError::Unusable { path, reason }),
            None => Ok(world),
        }
    }

    /// Adds a fresh server for every node of `project` that has none here yet.
    pub fn admit(&self, project: &Project) {
        self.with(|state| add_missing(state, project));
    }

    fn with_state(state: State, folder: Option<Folder>) -> Self {
        let world = Self {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                running: Mutex::new(Running { folder, ..Running::default() }),
                changed: watch::Sender::new(0),
                killed: watch::Sender::new(false),
            }),
        };
        let clusters: Vec<(String, ClusterState)> =
            world.state().clusters.iter().map(|(id, c)| (id.clone(), c.clone())).collect();
        for (id, cluster) in clusters {
            world.adopt_api(&id, |clock| Api::restore(cluster.store, clock));
        }
        world
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.inner.running.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Begins a run: a killed process lives again, connections are gone, points are counted from zero, and this plan
    /// of faults applies. Call it inside the runtime that the run uses. A minute passes between two runs.
    pub fn begin_run(&self, plan: Plan) {
        let now = self.state().now_ms.max(EPOCH_MS);
        self.break_lines(|_| true);
        let mut running = self.running();
        let now = if running.started.is_some() { now + BETWEEN_RUNS_MS } else { now };
        running.started = Some((Instant::now(), now));
        running.plan = plan;
        running.counts = Counts::default();
        running.trace.clear();
        running.locks.clear();
        drop(running);
        let mut state = self.state();
        for host in state.hosts.values_mut() {
            host.remove("/run/xgenctl/holder");
        }
        drop(state);
        self.inner.killed.send_replace(false);
    }

    /// The simulated clock, milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        let floor = self.state().now_ms;
        let mut running = self.running();
        let (started, base) = *running.started.get_or_insert_with(|| (Instant::now(), floor.max(EPOCH_MS)));
        floor.max(base + i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX / 2))
    }

    /// Works on the state at the present time: what is due happens first. Every change is kept.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        self.settle();
        let result = {
            let mut state = self.state();
            let before = state.agenda.first().cloned();
            let result = work(&mut state);
            if before != state.agenda.first().cloned() {
                self.inner.changed.send_modify(|n| *n += 1);
            }
            result
        };
        self.save();
        result
    }

    /// Looks at the state at the present time.
    pub(super) fn see<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.settle();
        look(&self.state())
    }

    /// Everything that has become due happens.
    pub fn settle(&self) {
        let now = self.now_ms();
        if systemd::settle(self, &mut self.state(), now) {
            self.inner.changed.send_modify(|n| *n += 1);
            self.save();
        }
    }

    /// Looks at a host without changing it.
    pub fn host<T>(&self, name: &str, look: impl FnOnce(&HostState) -> T) -> Option<T> {
        self.see(|state| state.hosts.get(name).map(look))
    }

    /// Changes a host behind the back of whoever rehearses: an edited file, a stopped program.
    pub fn tamper<T>(&self, name: &str, change: impl FnOnce(&mut HostState) -> T) -> Option<T> {
        self.with(|state| state.hosts.get_mut(name).map(change))
    }

    /// Restarts a host: /run is empty afterwards, its enabled units start.
    pub fn reboot(&self, name: &str) {
        self.break_lines(|host| host == name);
        self.with(|state| systemd::reboot(self, state, name));
        self.running().locks.remove(name);
    }

    /// Lets things happen by themselves when their time comes; goes on for ever.
    pub(super) async fn drive(self) {
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.borrow_and_update();
            self.settle();
            let due = self.state().agenda.first().map(|(due, _, _)| *due);
            let wait = due.map_or(3_600_000, |due| due - self.now_ms());
            let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0).max(1));
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    // Clusters.

    /// The API of a cluster.
    pub(super) fn api(&self, cluster: &str) -> Option<Api> {
        self.running().apis.get(cluster).cloned()
    }

    /// The APIs of all clusters, for tests that look behind the tunnel.
    pub fn apis(&self) -> Vec<Api> {
        self.settle();
        self.running().apis.values().cloned().collect()
    }

    pub(super) fn adopt_api(&self, cluster: &str, make: impl FnOnce(super::api::Clock) -> Api) -> Api {
        let world = Arc::downgrade(&self.inner);
        // The clock is asked while the world's state is locked, so it must not lock it again: it reads the time alone.
        let api = make(Arc::new(move || world.upgrade().map_or(0, |inner| World { inner }.time_of_api())));
        self.running().apis.insert(cluster.to_owned(), api.clone());
        api
    }

    fn time_of_api(&self) -> i64 {
        match self.running().started {
            Some((started, base)) => base + i64::try_from(started.elapsed().as_millis()).unwrap_or(0),
            None => EPOCH_MS,
        }
    }

    // Faults.

    /// Passes a point: counts it and says what goes wrong there.
    pub(super) fn pass(&self, point: Point, host: &str, what: &str) -> Option<Fault> {
        if self.is_killed() {
            return Some(Fault::Killed);
        }
        let now = self.now_ms();
        let mut running = self.running();
        let nth = {
            let count = running.counts.0.entry(point).or_default();
            *count += 1;
            *count
        };
        let fault = running.plan.take(point, nth);
        let told = fault.map(|f| format!(" !{f:?}")).unwrap_or_default();
        running.trace.push(format!("{} {point:?} {nth} {host} {what}{told}", now - EPOCH_MS));
        drop(running);
        match fault {
            Some(Fault::Killed) => {
                self.inner.killed.send_replace(true);
                self.break_lines(|_| true);
            }
            Some(Fault::Unreachable(ms)) => {
                let until = now + i64::try_from(ms).unwrap_or(0);
                self.with(|state| {
                    if let Some(host) = state.hosts.get_mut(host) {
                        host.down_until_ms = until;
                    }
                });
                self.break_lines(|h| h == host);
            }
            _ => {}
        }
        fault
    }

    /// Whether the rehearsed process was killed: everything it tries from then on fails.
    pub fn is_killed(&self) -> bool {
        *self.inner.killed.borrow()
    }

    /// Ends when the rehearsed process is killed; whoever runs it drops it then.
    pub async fn killed(&self) {
        let mut killed = self.inner.killed.subscribe();
        // The sender lives as long as `self`.
        let _ = killed.wait_for(|k| *k).await;
    }

    /// How often each kind of point was passed in this run.
    pub fn counts(&self) -> Counts {
        self.running().counts.clone()
    }

    /// Every point passed in this run, in order, with the simulated time and what went wrong there.
    pub fn trace(&self) -> Vec<String> {
        self.running().trace.clone()
    }

    // Connections and locks.

    pub(super) fn add_line(&self, host: &str, line: &Arc<Line>) {
        let mut running = self.running();
        running.lines.retain(|(_, line)| line.strong_count() > 0);
        running.lines.push((host.to_owned(), Arc::downgrade(line)));
    }

    pub(super) fn break_lines(&self, which: impl Fn(&str) -> bool) {
        let broken: Vec<Arc<Line>> =
            self.running().lines.iter().filter(|(host, _)| which(host)).filter_map(|(_, l)| l.upgrade()).collect();
        for line in broken {
            line.send_replace(true);
        }
    }

    /// Notes a connection to the API of a host.
    pub(super) fn add_tunnel(&self, host: &str, tunnel: &Arc<Line>) {
        let mut running = self.running();
        running.tunnels.retain(|(_, tunnel)| tunnel.strong_count() > 0);
        running.tunnels.push((host.to_owned(), Arc::downgrade(tunnel)));
    }

    /// The API of a host ended: connections to it break.
    pub(super) fn drop_tunnels(&self, host: &str) {
        let running = self.running();
        for tunnel in running.tunnels.iter().filter(|(h, _)| h == host).filter_map(|(_, t)| t.upgrade()) {
            tunnel.send_replace(true);
        }
    }

    /// Takes the run lock of a host for a program, if nobody has it.
    pub(super) fn take_lock(&self, host: &str, program: u64) -> bool {
        let mut running = self.running();
        let free = !running.locks.contains_key(host);
        if free {
            running.locks.insert(host.to_owned(), program);
        }
        free
    }

    /// Gives the run lock of a host back, if this program has it.
    pub(super) fn release_lock(&self, host: &str, program: u64) -> bool {
        let mut running = self.running();
        let had = running.locks.get(host) == Some(&program);
        if had {
            running.locks.remove(host);
        }
        had
    }

    // Records.

    pub(super) fn record(&self, kept: Kept, host: &str, text: impl Into<String>) {
        let text = text.into();
        if text.is_empty() {
            return;
        }
        let mut running = self.running();
        running.recorded += text.len();
        running.records.push_back(Record { kept, host: host.to_owned(), text });
        while running.recorded > RECORD_LIMIT {
            let Some(oldest) = running.records.pop_front() else { break };
            running.recorded -= oldest.text.len();
        }
    }

    /// What was recorded since the world was made, the oldest first; at most 8 MiB of it.
    pub fn records(&self) -> Vec<Record> {
        self.running().records.iter().cloned().collect()
    }

    /// What was asked for and is not simulated: tests assert that there is none.
    pub fn not_simulated(&self) -> Vec<String> {
        self.running().records.iter().filter(|r| r.kept == Kept::NotSimulated).map(|r| r.text.clone()).collect()
    }

    // Persistence.

    /// The whole state, with the clusters' objects in it.
    pub fn snapshot(&self) -> State {
        let now = self.now_ms();
        let mut state = self.state().clone();
        let apis = self.running().apis.clone();
        for (id, cluster) in &mut state.clusters {
            if let Some(api) = apis.get(id) {
                cluster.store = api.snapshot();
            }
        }
        state.now_ms = now;
        state
    }

    /// Writes the state to its folder, if it has one.
    pub(super) fn save(&self) {
        if self.running().folder.is_none() {
            return;
        }
        let state = self.snapshot();
        let mut running = self.running();
        if let Some(folder) = &running.folder {
            running.save_error = folder.save(&state).err();
        }
    }

    /// The file that the state could not be written to and why, if it could not.
    pub fn save_error(&self) -> Option<(String, String)> {
        self.running().save_error.clone()
    }
}

fn add_missing(state: &mut State, project: &Project) {
    for (name, host) in machine::fresh(project).hosts {
        state.hosts.entry(name).or_insert(host);
    }
}

use k8s_openapi::api::core::v1::{Node, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use super::*;

fn agent_config(token: &str) -> String {
    format!(
        "server: https://10.0.0.10:6443\ntoken: {token}\nnode-label: [role=gpu]\nnode-taint: ['gpu=true:NoSchedule']\n"
    )
}

async fn up(world: &World) -> (Shell, Shell) {
    let master = Shell::to(world, "master").await;
    let ended = master.start("k3s.service", SERVER_UNIT, "token: correct-horse\n").await;
    assert_eq!(ended.0, 0, "{}", ended.2);
    let worker = Shell::to(world, "worker").await;
    (master, worker)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn wait_ready(nodes: &Api<Node>, name: &str) -> Node {
    for _ in 0..100 {
        if let Some(node) = nodes.get_opt(name).await.unwrap()
            && is_ready(&node)
        {
            return node;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("{name} does not become Ready");
}

#[tokio::test(start_paused = true)]
async fn one_server_starts_and_a_kube_client_lists_its_node() {
    let world = World::new(&two());
    let (master, _) = up(&world).await;
    let nodes: Api<Node> = Api::all(client(&world, &master, "master").await);
    let node = wait_ready(&nodes, "master").await;
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let labels = node.metadata.labels.unwrap();
    assert_eq!(labels["node-role.kubernetes.io/control-plane"], "true");
    assert!(!labels.contains_key("node-role.kubernetes.io/etcd"));
    let status = node.status.unwrap();
    assert_eq!(status.node_info.unwrap().kubelet_version, VERSION);
    let token = world.host("master", |h| h.read_text("/var/lib/rancher/k3s/server/node-token")).flatten().unwrap();
    assert!(token.starts_with("K10") && token.trim_end().ends_with("::server:correct-horse"), "{token}");
    assert!(world.not_simulated().is_empty());
    assert!(master.journal("k3s.service").await.contains("k3s is up and running"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_joins_and_keeps_labels_and_taints_of_its_first_registration() {
    let world = World::new(&two());
    let (master, worker) = up(&world).await;
    let nodes: Api<Node> = Api::all(client(&world, &master, "master").await);
    let ended = worker.start("k3s-agent.service", AGENT_UNIT, &agent_config("correct-horse")).await;
    assert_eq!(ended.0, 0, "{}", ended.2);
    let node = wait_ready(&nodes, "worker").await;
    assert_eq!(node.metadata.labels.as_ref().unwrap()["role"], "gpu");
    assert_eq!(node.spec.as_ref().unwrap().taints.as_ref().unwrap()[0].key, "gpu");

    let other = agent_config("correct-horse").replace("gpu", "cpu");
    worker.put("/etc/rancher/k3s/config.yaml", "600", &other).await;
    let before = world.main_pids();
    worker.run(&scripts::UNIT, &["restart", "k3s-agent.service"]).await.unwrap();
    worker.run(&scripts::WAIT_UNIT, &["k3s-agent.service", "60"]).await.unwrap();
    let node = wait_ready(&nodes, "worker").await;
    assert_eq!(node.metadata.labels.unwrap()["role"], "gpu", "labels are set at the first registration only");
    let after = world.main_pids();
    assert_ne!(before["worker/k3s-agent.service"], after["worker/k3s-agent.service"]);
    assert_eq!(before["master/k3s.service"], after["master/k3s.service"]);

    worker.run(&scripts::UNIT, &["stop", "k3s-agent.service"]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(39)).await;
    assert!(is_ready(&nodes.get("worker").await.unwrap()));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!is_ready(&nodes.get("worker").await.unwrap()), "a stopped agent is missed after 40 seconds");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_with_another_password_is_refused_until_its_secret_is_gone() {
    let world = World::new(&two());
    let (master, worker) = up(&world).await;
    let kube = client(&world, &master, "master").await;
    let nodes: Api<Node> = Api::all(kube.clone());
    worker.start("k3s-agent.service", AGENT_UNIT, &agent_config("correct-horse")).await;
    wait_ready(&nodes, "worker").await;
    assert_eq!(worker.run(&scripts::CLEAN, &["k3s-agent.service"]).await.unwrap().0, 0);
    assert!(world.host("worker", |h| !h.files.contains_key("/etc/rancher/node/password")).unwrap());
    nodes.delete("worker", &DeleteParams::default()).await.unwrap();
    assert!(nodes.get_opt("worker").await.unwrap().is_none());

    let ended = worker.start("k3s-agent.service", AGENT_UNIT, &agent_config("correct-horse")).await;
    assert_eq!(ended.0, 1);
    assert!(
        ended.2.contains(
            "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match \
             server node-passwd entry"
        ),
        "{}",
        ended.2
    );
    let secrets: Api<Secret> = Api::namespaced(kube, "kube-system");
    secrets.delete("worker.node-password.k3s", &DeleteParams::default()).await.unwrap();
    wait_ready(&nodes, "worker").await;
}

#[tokio::test(start_paused = true)]
async fn k3s_that_cannot_start_says_why_in_its_journal() {
    let world = World::new(&two());
    let master = Shell::to(&world, "master").await;
    let ended = master.start("k3s.service", SERVER_UNIT, "disable: [traefik\n").await;
    assert_eq!(ended.0, 1);
    assert!(ended.2.starts_with("k3s.service is activating after 5 restarts\n"), "{}", ended.2);
    assert!(ended.2.contains("level=fatal msg=\"yaml: "), "{}", ended.2);
    assert!(ended.2.contains("status=1/FAILURE"), "{}", ended.2);

    master.run(&scripts::REMOVE, &["/usr/local/bin/k3s"]).await.unwrap();
    master.run(&scripts::UNIT, &["restart", "k3s.service"]).await.unwrap();
    let ended = master.run(&scripts::WAIT_UNIT, &["k3s.service", "20"]).await.unwrap();
    assert!(
        ended.2.contains("Failed at step EXEC spawning /usr/local/bin/k3s: No such file or directory"),
        "{}",
        ended.2
    );

    let ended = master.run(&scripts::UNIT, &["start", "other.service"]).await.unwrap();
    assert_eq!((ended.0, ended.2.trim()), (1, "Failed to enable unit: Unit file other.service does not exist."));

    // A server only warns of a key that it does not know; an agent does not start.
    let ended = master.start("k3s.service", SERVER_UNIT, "colour: red\n").await;
    assert_eq!(ended.0, 0, "{}", ended.2);
    assert!(master.journal("k3s.service").await.contains("Unknown flag --colour found in config.yaml, skipping"));
    let worker = Shell::to(&world, "worker").await;
    let ended = worker.start("k3s-agent.service", AGENT_UNIT, "colour: red\n").await;
    assert!(ended.2.contains("flag provided but not defined: -colour"), "{}", ended.2);
}

#[tokio::test(start_paused = true)]
async fn an_agent_waits_for_a_server_and_a_good_token() {
    let world = World::new(&two());
    let worker = Shell::to(&world, "worker").await;
    let ended = worker.start("k3s-agent.service", AGENT_UNIT, &agent_config("wrong-token")).await;
    assert_eq!(ended.0, 1);
    assert!(ended.2.starts_with("k3s-agent.service is activating after 0 restarts"), "{}", ended.2);
    assert!(ended.2.contains("dial tcp 10.0.0.10:6443: connect: connection refused"), "{}", ended.2);

    let (master, _) = up(&world).await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert!(worker.journal("k3s-agent.service").await.contains("401 Unauthorized"));
    let hash = "0".repeat(64);
    worker.put("/etc/rancher/k3s/config.yaml", "600", &agent_config(&format!("K10{hash}::server:correct-horse"))).await;
    worker.run(&scripts::UNIT, &["restart", "k3s-agent.service"]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let journal = worker.journal("k3s-agent.service").await;
    assert!(journal.contains("token CA hash does not match the Cluster CA certificate hash"), "{journal}");

    let token = world.host("master", |h| h.read_text("/var/lib/rancher/k3s/server/token")).flatten().unwrap();
    worker.put("/etc/rancher/k3s/config.yaml", "600", &agent_config(token.trim())).await;
    worker.run(&scripts::UNIT, &["restart", "k3s-agent.service"]).await.unwrap();
    let nodes: Api<Node> = Api::all(client(&world, &master, "master").await);
    wait_ready(&nodes, "worker").await;
}

#[tokio::test(start_paused = true)]
async fn three_servers_form_one_cluster_one_after_another() {
    let servers = ["a", "b", "c"].iter().enumerate();
    let nodes = servers.map(|(n, name)| node(name, Role::Server, &format!("10.0.0.{}", n + 1))).collect();
    let world = World::new(&project(nodes));
    let first = Shell::to(&world, "a").await;
    let joins = "token: correct-horse\nserver: https://10.0.0.1:6443\n";

    // SQLite takes no second server; cluster-init turns it into etcd and keeps what is in it.
    assert_eq!(first.start("k3s.service", SERVER_UNIT, "token: correct-horse\n").await.0, 0);
    let second = Shell::to(&world, "b").await;
    let refused = second.start("k3s.service", SERVER_UNIT, joins).await;
    assert!(refused.2.contains("etcd disabled"), "{}", refused.2);
    first.put("/etc/rancher/k3s/config.yaml", "600", "token: correct-horse\ncluster-init: true\n").await;
    first.run(&scripts::UNIT, &["restart", "k3s.service"]).await.unwrap();
    assert_eq!(first.run(&scripts::WAIT_UNIT, &["k3s.service", "60"]).await.unwrap().0, 0);

    second.run(&scripts::UNIT, &["restart", "k3s.service"]).await.unwrap();
    let third = Shell::to(&world, "c").await;
    assert_eq!(third.start("k3s.service", SERVER_UNIT, joins).await.0, 0);
    assert!(third.journal("k3s.service").await.contains("too many learner members in cluster"));
    let api: Api<Node> = Api::all(client(&world, &third, "c").await);
    for name in ["a", "b", "c"] {
        let node = wait_ready(&api, name).await;
        assert_eq!(node.metadata.labels.unwrap()["node-role.kubernetes.io/etcd"], "true");
    }
    // Without a majority a server does not come up.
    for name in ["b", "c"] {
        let shell = Shell::to(&world, name).await;
        shell.run(&scripts::UNIT, &["stop", "k3s.service"]).await.unwrap();
    }
    first.run(&scripts::UNIT, &["restart", "k3s.service"]).await.unwrap();
    let alone = first.run(&scripts::WAIT_UNIT, &["k3s.service", "30"]).await.unwrap();
    assert!(alone.2.contains("Waiting for etcd server to become available: 1 of 3 members"), "{}", alone.2);
    second.run(&scripts::UNIT, &["start", "k3s.service"]).await.unwrap();
    assert_eq!(first.run(&scripts::WAIT_UNIT, &["k3s.service", "60"]).await.unwrap().0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_server_keeps_its_cluster_and_a_cleaned_one_forgets_it() {
    let world = World::new(&two());
    let (master, _) = up(&world).await;
    let kube = client(&world, &master, "master").await;
    let nodes: Api<Node> = Api::all(kube);
    let made = wait_ready(&nodes, "master").await.metadata.creation_timestamp;
    world.reboot("master");
    let master = Shell::to(&world, "master").await;
    assert_eq!(master.run(&scripts::WAIT_UNIT, &["k3s.service", "60"]).await.unwrap().0, 0);
    let nodes: Api<Node> = Api::all(client(&world, &master, "master").await);
    assert_eq!(wait_ready(&nodes, "master").await.metadata.creation_timestamp, made);

    master.run(&scripts::CLEAN, &["k3s.service"]).await.unwrap();
    let left: Vec<String> = world
        .host("master", |h| h.files.keys().filter(|p| p.contains("k3s") || p.contains("rancher")).cloned().collect())
        .unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(master.start("k3s.service", SERVER_UNIT, "token: correct-horse\n").await.0, 0);
    let nodes: Api<Node> = Api::all(client(&world, &master, "master").await);
    assert_ne!(wait_ready(&nodes, "master").await.metadata.creation_timestamp, made);
}

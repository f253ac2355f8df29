//! What commands see of the runtime: nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use lakitu_keeper::{Cgroup, KeeperSpec, Namespaces, SpawnOutcome, Visible};

use super::scene::Home;

/// Files as a runtime has them, one of each kind; commands get to see two of them.
fn furnish(home: &Home, namespaces: Namespaces) -> KeeperSpec {
    let data = home.root.path().join("data");
    fs::create_dir_all(data.join("artifacts")).unwrap();
    fs::create_dir_all(data.join("outputs/thr_1")).unwrap();
    fs::write(data.join("lakitu.redb"), "SECRET").unwrap();
    fs::write(data.join("outputs/thr_1/old.out"), "old output").unwrap();
    fs::write(home.root.path().join("token"), "SECRET").unwrap();
    KeeperSpec {
        hidden: vec![data.clone(), home.root.path().join("token"), home.root.path().join("not-there")],
        visible: vec![
            Visible { path: data.join("artifacts"), read_only: false },
            Visible { path: data.join("outputs"), read_only: true },
            Visible { path: home.work(), read_only: false },
        ],
        ..home.spec(namespaces)
    }
}

/// What a command tries against what is hidden; every line prints nothing if it is held off.
const PRYING: &str = r#"
    cat ../token ../data/lakitu.redb 2>/dev/null
    ls ../data/jobs 2>/dev/null
    for pid in /proc/[0-9]*; do
        for way in root cwd fd/*; do
            cat "$pid/$way/ROOT/token" "$pid/$way/ROOT/data/lakitu.redb" "$pid/$way/lakitu.redb" 2>/dev/null
            cat "$pid/$way/../../lakitu.redb" 2>/dev/null
        done
    done
    umount ../token ../data ../data/outputs /proc 2>/dev/null && echo unmounted
    unshare -m sh -c 'umount ../data && cat ../data/lakitu.redb' 2>/dev/null
    unshare -Urm sh -c 'umount ../data && cat ../data/lakitu.redb; umount -l ../token && cat ../token' 2>/dev/null
    mount -o remount,rw ../data/outputs 2>/dev/null && echo remounted
    mkdir -p disk; for disk in /dev/[vs]d*; do mount $disk disk 2>/dev/null && echo mounted; head -c1 $disk 2>/dev/null; done
    mknod disk/node b 254 0 2>/dev/null && head -c1 disk/node
    for pid in RUNTIME HELPER; do grep -s lakitu /proc/$pid/comm && kill -0 $pid && echo signalled; done
    nsenter -t 1 -m true 2>/dev/null && echo entered
    ls -d /proc/1/map_files/* 2>/dev/null
    cat /proc/sys/kernel/core_pattern 2>/dev/null >/proc/sys/kernel/core_pattern && echo pattern
    echo h 2>/dev/null >/proc/sysrq-trigger && echo magic
    test "$(cat /proc/1/comm)" = lakitu-keeper && kill -TERM 1 && kill -KILL 1
    touch ../data/outputs/x 2>/dev/null && echo written
    touch ../data/x 2>/dev/null && echo written
    true
"#;

fn prying(home: &Home) -> String {
    let helper = home.helpers.last().unwrap().id().to_string();
    let script = PRYING.replace("ROOT", home.root.path().to_str().unwrap());
    script.replace("RUNTIME", &std::process::id().to_string()).replace("HELPER", &helper)
}

#[test]
fn commands_cannot_reach_the_runtime() {
    let mut home = Home::new();
    let spec = furnish(&home, Namespaces::Auto);
    let (mut client, spawned) = home.keeper_as(&spec);
    if !spawned.isolation.mount_namespace {
        assert!(spawned.isolation.reason.is_some());
        return;
    }
    let script = prying(&home);
    home.run(&mut client, 1, &script);
    assert_eq!(home.output(1), "");
    home.run(&mut client, 2, "echo made >../data/artifacts/a; cat ../data/outputs/thr_1/old.out; touch ../data/outputs/x; ls ../data; wc -c <../token");
    let expected = "old outputtouch: cannot touch '../data/outputs/x': Read-only file system\nartifacts\noutputs\n0\n";
    assert_eq!(home.output(2), expected);
    assert_eq!(fs::read_to_string(home.root.path().join("data/artifacts/a")).unwrap(), "made\n");
    // The socket of its own keeper is hidden too; so is one that the test makes.
    let connect = "python3 -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])' ../data/jobs/thr_1/sock 2>/dev/null && echo connected; true";
    home.run(&mut client, 3, connect);
    assert_eq!(home.output(3), "");
}

#[test]
fn where_only_a_user_namespace_is_allowed_it_holds_too() {
    if !rustix::process::geteuid().is_root() {
        return; // the test above was this one then
    }
    const NOBODY: u32 = 65534;
    let mut home = Home::new();
    let spec = furnish(&home, Namespaces::Auto);
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    };
    let data = home.root.path().join("data");
    let all =
        [".", "work", "token", "data", "data/artifacts", "data/outputs", "data/outputs/thr_1", "data/lakitu.redb"];
    for path in all {
        open(&home.root.path().join(path));
    }
    // The test executable lies where nobody else may look.
    let program = home.root.path().join("helper");
    fs::copy(env!("CARGO_BIN_EXE_lakitu-keeper"), &program).unwrap();
    open(&program);
    let mut helper = Command::new(&program);
    helper.uid(NOBODY).gid(NOBODY).current_dir("/");
    match home.spawn_by(helper, &spec) {
        SpawnOutcome::Ok(spawned) if spawned.isolation.user_namespace => {
            // Nobody may make a cgroup; then that is said too.
            let cgroup = &spawned.isolation.cgroup;
            assert!(matches!(cgroup, Cgroup::No(why) if !why.is_empty()), "{cgroup:?}");
        }
        // Some kernels and containers allow none; then that is said.
        SpawnOutcome::Ok(spawned) => return assert!(spawned.isolation.reason.is_some()),
        SpawnOutcome::Error(refusal) => panic!("{refusal}"),
    }
    let mut client = home.attach();
    let script = prying(&home);
    home.run(&mut client, 1, &script);
    assert_eq!(home.output(1), "");
    home.run(
        &mut client,
        2,
        "id -u; grep CapEff /proc/self/status; cat /proc/self/oom_score_adj; echo made >../data/artifacts/a",
    );
    assert_eq!(home.output(2), "65534\nCapEff:\t0000000000000000\n500\n");
    assert!(data.join("artifacts/a").exists());
}

//! The cgroup of a keeper's commands: they are born in it, and it ends with them, whoever dies first.

use std::fs;
use std::path::{Path, PathBuf};

use lakitu_keeper::protocol::{Call, Exit};
use lakitu_keeper::{Cgroup, KeeperSpec, Namespaces, SpawnOutcome};
use rustix::process::{Pid, Signal, kill_process};

use super::scene::{BOTH, PATIENCE, Scene, exited};

/// A survivor out of every tree: its parents are dead, its session and its environment are its own. It holds the pulse.
const SURVIVOR: &str = "exec 9>pulse; (env -i /usr/bin/setsid -f /bin/bash -c 'echo >&9; exec sleep 1000' &)";

/// Where the commands of this keeper live; `None` where it has no cgroup for them, which it must have said.
fn leaf_of(scene: &mut Scene, seq: u64) -> Option<PathBuf> {
    scene.home.run(&mut scene.client, seq, "sed -n 's/^0:://p' /proc/self/cgroup");
    let told = scene.home.output(seq);
    let path = told.trim().strip_prefix('/')?;
    let name = Path::new(path).file_name().is_some_and(|name| name.to_string_lossy().starts_with("lakitu-"));
    match &scene.spawned.isolation.cgroup {
        Cgroup::Yes => {
            assert!(name, "the command lives in {told}");
            Some(mounted(path))
        }
        Cgroup::No(why) => {
            assert!(!name && !why.is_empty(), "{why}: {told}");
            None
        }
    }
}

/// A cgroup's directory. The mounts that machines have show it from its root.
fn mounted(path: &str) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().rfind(|line| line.contains(" - cgroup2 ")).expect("a keeper found one");
    let point = line.split(' ').nth(4).unwrap();
    Path::new(point).join(path)
}

#[test]
fn commands_are_born_in_a_cgroup_that_ends_with_the_keeper() {
    for namespaces in BOTH {
        let mut scene = Scene::new(namespaces);
        let Some(leaf) = leaf_of(&mut scene, 1) else { return };
        let own = fs::read_to_string(format!("/proc/{}/cgroup", scene.spawned.pid)).unwrap();
        assert!(!own.contains("lakitu-"), "the keeper itself must not be in it: {own}");
        assert!(leaf.is_dir());
        scene.client.request(Call::Shutdown {}).unwrap();
        scene.home.wait_for_end();
        assert!(!leaf.exists());
    }
}

#[test]
fn where_it_was_removed_commands_run_all_the_same_and_it_is_told() {
    let mut scene = Scene::new(Namespaces::Auto);
    let Some(leaf) = leaf_of(&mut scene, 1) else { return };
    fs::remove_dir(&leaf).unwrap();
    assert_eq!(scene.home.run(&mut scene.client, 2, "exit 7").end.exit, Some(Exit::Code(7)));
    assert_eq!(scene.client.hello().unwrap().isolation.cgroup, Cgroup::No("somebody removed it".to_owned()));
}

#[test]
fn the_parent_of_a_killed_keeper_ends_its_cgroup() {
    for namespaces in BOTH {
        let mut scene = Scene::new(namespaces);
        let Some(leaf) = leaf_of(&mut scene, 1) else { return };
        scene.client.request(Call::Start(scene.home.bash(2, SURVIVOR))).unwrap();
        scene.pulse.wait_for(1);
        exited(&mut scene.client, 2);
        kill_process(Pid::from_raw(scene.spawned.pid).unwrap(), Signal::KILL).unwrap();
        scene.pulse.wait_for_silence();
        scene.home.wait_for_end();
        assert!(!leaf.exists());
    }
}

#[test]
fn the_next_keeper_of_the_data_directory_ends_what_two_killed_ones_left_behind() {
    let mut scene = Scene::new(Namespaces::Off);
    let Some(stale) = leaf_of(&mut scene, 1) else { return };
    scene.client.request(Call::Start(scene.home.bash(2, SURVIVOR))).unwrap();
    scene.pulse.wait_for(1);
    exited(&mut scene.client, 2);
    // Its parent first, because that would clear up after it.
    kill_process(Pid::from_child(&scene.home.helpers[0]), Signal::KILL).unwrap();
    scene.home.wait_for_end();
    kill_process(Pid::from_raw(scene.spawned.pid).unwrap(), Signal::KILL).unwrap();
    while scene.client.next_event(PATIENCE).is_ok() {}
    assert!(fs::read_to_string(stale.join("cgroup.events")).unwrap().contains("populated 1"), "nobody survived");

    // A stranger's keeper leaves it alone.
    let mut stranger = Scene::new(Namespaces::Off);
    assert_eq!(stranger.home.run(&mut stranger.client, 1, "true").end.exit, Some(Exit::Code(0)));
    assert!(fs::read_to_string(stale.join("cgroup.events")).unwrap().contains("populated 1"));

    let beside = scene.home.dir().with_file_name("thr_2");
    let spec = KeeperSpec { dir: beside, ..scene.home.spec(Namespaces::Off) };
    assert!(matches!(scene.home.spawn(&spec), SpawnOutcome::Ok(_)));
    scene.pulse.wait_for_silence();
    assert!(!stale.exists());
}

#[test]
fn a_living_keepers_cgroup_is_left_alone_by_one_beside_it() {
    let mut scene = Scene::new(Namespaces::Auto);
    let Some(leaf) = leaf_of(&mut scene, 1) else { return };
    let beside = scene.home.dir().with_file_name("thr_2");
    let spec = KeeperSpec { dir: beside, ..scene.home.spec(Namespaces::Auto) };
    assert!(matches!(scene.home.spawn(&spec), SpawnOutcome::Ok(_)));
    // A second one for the same directory is refused, and takes nothing with it.
    let again = scene.home.spec(Namespaces::Auto);
    assert!(matches!(scene.home.spawn(&again), SpawnOutcome::Error(_)));
    assert!(leaf.is_dir());
    assert_eq!(leaf_of(&mut scene, 2), Some(leaf));
}

//! Jobs: commands that outlive the call that started them. How they come to be, what can be done with them, and when they
//! end, whatever they do to stay.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lakitu_actors::tools::bash::{BASH, BASH_INPUT, BASH_KILL, BASH_LIST, BASH_OUTPUT};
use lakitu_actors::tools::{Ask, Settled};
use lakitu_keeper::protocol::MAX_JOBS;
use lakitu_kernel::ErrorCode;
use lakitu_kernel::limits::{INPUT_BYTES_MAX, SPOOL_BYTES_MAX};
use lakitu_kernel::tool::ToolOutcome;
use serde_json::json;

use crate::bash::{PATIENCE, THREAD, World, alive, boot, code, last_line, marker, outcome};

impl World {
    fn background(&self, seq: u64, command: &str) -> Ask {
        self.ask(&BASH, seq, 1, &json!({ "command": command, "run_in_background": true }))
    }

    fn timed(&self, seq: u64, command: &str, timeout: u64) -> Ask {
        self.ask(&BASH, seq, 1, &json!({ "command": command, "timeout": timeout }))
    }

    fn text_for(&self, seq: u64, job: u64, text: &str) -> Ask {
        self.ask(&BASH_INPUT, seq, 1, &json!({ "job": job, "text": text }))
    }

    async fn start(&self, seq: u64, command: &str) {
        let started = self.run(&self.background(seq, command)).await;
        assert_eq!(
            (started.error, started.output),
            (None, format!("[job_{seq} was started in the background; see bash_output, bash_input, bash_kill]"))
        );
    }

    /// What the job has put out, once its command has ended.
    async fn ended(&self, seq: u64, job: u64) -> String {
        let wait = u64::try_from(PATIENCE.as_millis()).unwrap();
        self.run(&self.ask(&BASH_OUTPUT, seq, 1, &json!({ "job": job, "wait": wait }))).await.output
    }

    /// What the job has put out behind this byte, once there is something.
    async fn more(&self, seq: u64, job: u64, since: u64) -> String {
        let wait = u64::try_from(PATIENCE.as_millis()).unwrap();
        self.run(&self.ask(&BASH_OUTPUT, seq, 1, &json!({ "job": job, "since": since, "wait": wait }))).await.output
    }

    async fn kill(&self, seq: u64, job: u64) -> ToolOutcome {
        self.run(&self.ask(&BASH_KILL, seq, 1, &json!({ "job": job }))).await
    }
}

/// Lets somebody who reads a fifo go on.
async fn let_go(fifo: &Path, line: &'static str) {
    let fifo = fifo.to_owned();
    tokio::task::spawn_blocking(move || fs::write(fifo, line)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_outlasts_its_call_goes_on_as_a_job_and_nothing_of_it_is_lost() {
    let world = World::new();
    let go = world.fifo(1).await;
    let late = world.run(&world.timed(2, "echo before; read line < go; echo \"after $line\"; exit 3", 300)).await;
    assert_eq!(code(&late), Some(ErrorCode::CommandTimeout));
    let told = "COMMAND_TIMEOUT: it is still running after 0.3 s and goes on as job_2; wait for it with bash_output (wait), \
                end it with bash_kill\nbefore\n[job_2: running for ";
    assert!(late.output.starts_with(told), "{}", late.output);
    assert!(late.output.ends_with("; since: 7]"), "{}", late.output);

    let listed = world.run(&world.ask(&BASH_LIST, 3, 1, &json!({}))).await;
    assert!(listed.output.starts_with("job_2  running for "), "{}", listed.output);
    // Its output is read on from where the call left it, the rest of it as it comes, and then how it ended.
    let now = world.run(&world.ask(&BASH_OUTPUT, 4, 1, &json!({ "job": 2, "since": 7 }))).await;
    assert!(now.output.starts_with("[job_2: running for "), "{}", now.output);
    let (rest, ()) = tokio::join!(world.more(5, 2, 7), let_go(&go, "all\n"));
    assert!(rest.starts_with("after all\n[job_2: "), "{rest}");
    assert!(world.ended(6, 2).await.starts_with("before\nafter all\n[job_2: exit 3; since: 17]"));
    // It is no job any more; what it put out stays.
    assert_eq!(world.run(&world.ask(&BASH_LIST, 7, 1, &json!({}))).await.output, "no jobs are running");
    assert!(world.ended(8, 2).await.contains("[job_2: exit 3"));

    let most = world.timed(9, ":", 601_000);
    let clamped = world.run(&most).await;
    assert!(clamped.output.starts_with("[timeout 601000 ms is more than a call waits"), "{}", clamped.output);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_job_is_talked_to_while_the_calls_go_on() {
    let world = World::new();
    let begun = Instant::now();
    world.start(6, "while read -r line; do echo \"heard $line\"; done; echo over").await;
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited");
    assert_eq!(world.run(&world.bash(7, "echo meanwhile")).await.error, None);

    let given = world.run(&world.text_for(8, 6, "one\n")).await;
    assert_eq!((given.error, given.output.as_str()), (None, "4 bytes given to job_6 [since: 0]"));
    let heard = world.more(9, 6, 0).await;
    assert!(heard.starts_with("heard one\n[job_6: running for "), "{heard}");
    let given = world.run(&world.text_for(10, 6, "two\n")).await;
    assert_eq!(given.output, "4 bytes given to job_6 [since: 10]");
    assert!(world.more(11, 6, 10).await.starts_with("heard two\n"));
    let last = world.run(&world.ask(&BASH_INPUT, 12, 1, &json!({ "job": 6, "text": "three\n", "eof": true }))).await;
    assert!(last.output.starts_with("6 bytes given to job_6, and its input is ended"), "{}", last.output);
    let all = world.ended(13, 6).await;
    assert!(all.starts_with("heard one\nheard two\nheard three\nover\n[job_6: exit 0; since: 37]"), "{all}");

    let late = world.run(&world.text_for(14, 6, "four\n")).await;
    assert_eq!(code(&late), Some(ErrorCode::JobNotFound));
    assert!(late.output.contains("job_6 has ended [exit 0"), "{}", late.output);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_input_says_so_and_is_given_nothing() {
    let mut world = World::new();
    // A command that somebody waits for reads an end at once, and still does as a job (B22).
    let waits = world.run(&world.timed(1, "cat; echo read; sleep 1000", 300)).await;
    assert!(waits.output.contains("\nread\n"), "{}", waits.output);
    let none = world.run(&world.text_for(2, 1, "x")).await;
    assert_eq!(code(&none), Some(ErrorCode::InputClosed), "{}", none.output);
    while world.output.try_recv().is_ok() {}

    // A job that has closed its own; one that nobody knows.
    world.start(3, "exec <&-; echo closed; sleep 1000").await;
    assert!(world.more(4, 3, 0).await.starts_with("closed\n"));
    let closed = world.run(&world.text_for(5, 3, "x")).await;
    assert_eq!(code(&closed), Some(ErrorCode::InputClosed), "{}", closed.output);
    assert_eq!(code(&world.run(&world.text_for(6, 99, "x")).await), Some(ErrorCode::JobNotFound));

    // One that does not read: some waits for it, then there is no room, and a text is given whole or not at all.
    let go = world.fifo(7).await;
    world.start(8, "read line < go; wc -c").await;
    let most = "x".repeat(INPUT_BYTES_MAX);
    let mut given = 0;
    let full = loop {
        let answer = world.run(&world.text_for(10 + given, 8, &most)).await;
        if answer.error.is_some() {
            break answer;
        }
        given += 1;
    };
    assert_eq!(code(&full), Some(ErrorCode::Timeout), "{}", full.output);
    assert!(full.output.contains("nothing of this text was given"), "{}", full.output);
    // Where it begins to read within the call's time, the text is given.
    let text = world.text_for(80, 8, &most);
    let (waited, ()) = tokio::join!(world.run(&text), let_go(&go, "\n"));
    assert_eq!(waited.error, None, "{}", waited.output);
    world.run(&world.ask(&BASH_INPUT, 81, 1, &json!({ "job": 8, "eof": true }))).await;
    let counted = world.ended(82, 8).await;
    assert!(counted.starts_with(&format!("{}\n", (given as usize + 1) * INPUT_BYTES_MAX)), "{counted}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_waited_for_no_longer_than_was_asked_and_no_longer_than_it_lives() {
    let world = World::new();
    let wait = |seq, more: serde_json::Value| world.ask(&BASH_OUTPUT, seq, 1, &more);
    world.start(1, "echo first; trap 'echo last; exit 0' TERM; while :; do sleep 0.05; done").await;
    assert!(world.more(2, 1, 0).await.starts_with("first\n"));
    // Nothing comes: what there is, is shown when the time is over.
    let silent = world.run(&wait(3, json!({ "job": 1, "since": 6, "wait": 200 }))).await;
    assert!(silent.output.starts_with("[job_1: running for "), "{}", silent.output);
    let whole = world.run(&wait(4, json!({ "job": 1, "wait": 200 }))).await;
    assert!(whole.output.starts_with("first\n[job_1: running for "), "{}", whole.output);
    // Somebody ends it meanwhile.
    let (seen, _) = tokio::join!(world.ended(5, 1), world.kill(6, 1));
    assert!(seen.starts_with("first\n") && seen.contains("last\n[job_1: killed"), "{seen}");
    // Of one that has ended, or that nobody knows, nothing is waited for.
    let begun = Instant::now();
    assert!(world.ended(7, 1).await.contains("[job_1: killed"));
    let nobody = world.run(&wait(8, json!({ "job": 99, "wait": 60_000 }))).await;
    assert_eq!(code(&nobody), Some(ErrorCode::JobNotFound));
    assert!(begun.elapsed() < Duration::from_secs(30));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_runtime_finds_a_jobs_start_whose_result_was_lost() {
    let world = World::new();
    let go = world.fifo(1).await;
    let command = "echo ready; read line < go; echo \"$line\"";
    world.start(2, command).await;
    let world = world.again();
    let ask = world.background(2, command);
    let found = outcome(world.recover(&ask, &boot(), 1).await);
    assert!(found.output.starts_with("[job_2 was started in the background; see"), "{}", found.output);
    let (all, ()) = tokio::join!(world.ended(3, 2), let_go(&go, "went on\n"));
    assert!(all.starts_with("ready\nwent on\n[job_2: exit 0"), "{all}");

    // Now that it has ended, all of it is told; also when its keeper is gone.
    let over = outcome(world.recover(&ask, &boot(), 1).await);
    let told = "ready\nwent on\n[job_2 was started in the background and has ended since]\n[exit 0]";
    assert_eq!((over.error.clone(), over.output.as_str()), (None, told));
    world.tools.kill_all(THREAD, PATIENCE).await;
    assert_eq!(outcome(world.recover(&ask, &boot(), 1).await), over);

    // One that never began is started under the next attempt.
    let never = world.background(4, "echo ran > ran");
    assert_eq!(world.recover(&never, &boot(), 1).await, Settled::NeverBegan);
    let second = world.ask(&BASH, 4, 2, &json!({ "command": "echo ran > ran", "run_in_background": true }));
    assert_eq!(world.run(&second).await.error, None);
    assert!(world.ended(5, 4).await.starts_with("[job_4: exit 0"));
    assert!(world.place().workspace.join("ran").exists());
    // Asked again, it is not run again, and what became of it is told.
    fs::remove_file(world.place().workspace.join("ran")).unwrap();
    assert!(world.run(&second).await.output.contains("has ended since]\n[exit 0]"));
    assert!(!world.place().workspace.join("ran").exists());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calls_time_runs_on_over_the_end_of_its_runtime() {
    let mut world = World::new();
    let command = "echo ready; sleep 1000";
    let waiting = world.begin(1, command).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let world = world.again();
    // It has run for longer than this already: its result is there at once.
    let late = outcome(world.recover(&world.timed(1, command, 1), &boot(), 1).await);
    assert_eq!(code(&late), Some(ErrorCode::CommandTimeout));
    assert!(late.output.contains("goes on as job_1") && late.output.contains("\nready\n"), "{}", late.output);
    assert!(world.kill(2, 1).await.output.starts_with("job_1 is ended"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_whose_result_was_lost_is_given_once_and_nobody_has_to_guess() {
    let world = World::new();
    world.start(1, "cat").await;
    let text = world.text_for(2, 1, "once\n");
    assert_eq!(world.run(&text).await.error, None);
    let world = world.again();
    let again = outcome(world.recover(&text, &boot(), 1).await);
    assert!(again.output.starts_with("5 bytes given to job_1"), "{}", again.output);
    let end = world.ask(&BASH_INPUT, 3, 1, &json!({ "job": 1, "eof": true }));
    assert_eq!(world.run(&end).await.error, None);
    assert!(world.ended(4, 1).await.starts_with("once\n[job_1: exit 0"));
    // The job has ended, of this text perhaps: its status says which it had, also when the keeper is gone.
    for _ in 0..2 {
        for (ask, had) in
            [(&text, "5 bytes given to job_1; it has ended since [exit 0"), (&end, "the input of job_1 is ended")]
        {
            let settled = outcome(world.recover(ask, &boot(), 1).await);
            assert!(settled.error.is_none() && settled.output.starts_with(had), "{}", settled.output);
        }
        let never = outcome(world.recover(&world.text_for(5, 1, "late"), &boot(), 1).await);
        assert_eq!(code(&never), Some(ErrorCode::JobNotFound));
        assert!(never.output.ends_with("nothing was given"), "{}", never.output);
        world.tools.kill_all(THREAD, PATIENCE).await;
    }

    // Where the keeper was killed, nobody wrote that down.
    world.start(6, "cat").await;
    rustix::process::kill_process(world.keeper_pid(), rustix::process::Signal::KILL).unwrap();
    assert!(world.ended(7, 6).await.contains("not running any more; how it ended was not recorded"));
    let unknown = outcome(world.recover(&world.text_for(8, 6, "x"), &boot(), 1).await);
    assert_eq!(code(&unknown), Some(ErrorCode::Interrupted), "{}", unknown.output);
    let fresh = world.run(&world.text_for(9, 6, "x")).await;
    assert_eq!(code(&fresh), Some(ErrorCode::JobNotFound), "{}", fresh.output);
    world.tools.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_every_job_and_its_output_says_so() {
    let world = World::new();
    let mark = marker(11);
    world.start(1, &format!("trap '' TERM; echo began; setsid sleep {mark} & sleep {mark}")).await;
    assert!(world.more(2, 1, 0).await.starts_with("began\n"));
    world.tools.kill_all(THREAD, PATIENCE).await;
    assert_eq!(alive(&mark), Vec::<String>::new());
    assert!(world.ended(3, 1).await.starts_with("began\n[job_1: killed: the run was stopped"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_outlives_its_lifetime() {
    let world = World::where_jobs_live_for(Duration::from_secs(1));
    let mark = marker(12);
    world.start(1, &format!("trap '' TERM; echo began; sleep {mark} & while :; do sleep {mark}; done")).await;
    let killed = world.ended(2, 1).await;
    assert!(killed.starts_with("began\n[job_1: killed: no command may run longer"), "{killed}");
    // What a command left behind, and a command that its call still waits for, are no exceptions.
    let left = world.run(&world.bash(3, &format!("setsid sh -c 'echo left; exec sleep {mark}' & echo out"))).await;
    assert!(left.output.contains("[still running: job_3"), "{}", left.output);
    let waited = world.run(&world.bash(4, &format!("sleep {mark}"))).await;
    assert_eq!(code(&waited), Some(ErrorCode::CommandFailed));
    assert!(waited.output.contains("no command may run longer"), "{}", waited.output);
    // More than it ever puts out: so its last process is waited for.
    let told = world.more(5, 3, 1000).await;
    assert!(told.contains("; what it left running was killed: no command may run longer"), "{told}");
    world.more(6, 1, 1000).await;
    assert_eq!(alive(&mark), Vec::<String>::new());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_jobs_run_and_the_next_is_refused_with_the_way_out() {
    let world = World::new();
    let most = MAX_JOBS as u64;
    for seq in 1..=most {
        world.start(seq, "read line").await;
    }
    for (seq, ask) in [(100, world.background(100, "echo ran > ran")), (101, world.bash(101, "echo ran > ran"))] {
        let refused = world.run(&ask).await;
        let told =
            format!("COMMAND_FAILED: {MAX_JOBS} jobs are running; end some with bash_kill (bash_list names them)");
        assert_eq!(refused.output, told, "{seq}");
    }
    assert!(!world.place().workspace.join("ran").exists());
    assert_eq!(world.kill(102, 1).await.error, None);
    assert_eq!(world.run(&world.bash(103, "echo ran > ran")).await.error, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jobs_output_is_kept_up_to_its_bound_and_past_it_the_job_is_ended() {
    let world = World::new();
    let spool = |job: u64| {
        let outputs = world.home.path().join("data/outputs").join(THREAD.to_string());
        fs::metadata(outputs.join(format!("{job}.out"))).unwrap().len()
    };
    world.start(1, &format!("head -c {SPOOL_BYTES_MAX} /dev/zero; read line")).await;
    world.run(&world.ask(&BASH_INPUT, 2, 1, &json!({ "job": 1, "eof": true }))).await;
    let whole = world.ended(3, 1).await;
    assert!(whole.contains("bytes omitted; whole output: "), "{}", whole.len());
    assert!(whole.ends_with(&format!("[job_1: exit 1; since: {SPOOL_BYTES_MAX}]")), "{}", &whole[whole.len() - 200..]);
    world.start(4, &format!("head -c {} /dev/zero; sleep 1000", SPOOL_BYTES_MAX + 1)).await;
    let cut = world.ended(5, 4).await;
    assert!(cut.ends_with(&format!("[job_4: killed: too much output; since: {SPOOL_BYTES_MAX}]")), "{}", cut.len());
    assert_eq!((spool(1), spool(4)), (SPOOL_BYTES_MAX, SPOOL_BYTES_MAX));
    world.end().await;
}

/// RELIABILITY B01 to B06, B09, B10, B12, B22, B32: what a command does to stay, to flood, to hang. As a job at once, and as
/// one that outlasts its call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_job_does_its_calls_return_and_its_end_is_its_end() {
    let vectors = [
        ("a child in the background", "HOLD & HOLD"),
        ("setsid", "setsid HOLD & HOLD"),
        ("double fork", "(setsid sh -c '(sleep MARK &) & :' &); HOLD"),
        ("nohup", "nohup sleep MARK >/dev/null 2>&1 & HOLD"),
        ("trap", "trap '' TERM HUP INT; HOLD & while :; do sleep MARK; done"),
        ("disown", "HOLD & disown; HOLD"),
        ("no environment", "env -i /usr/bin/setsid -f /bin/HOLD; HOLD"),
        ("stops itself", "HOLD & kill -STOP $$"),
        ("stopped child", "HOLD & sleep MARK & kill -STOP $!; wait"),
        ("another name", "(exec -a lakitu HOLD) & wait"),
        ("reads for ever", "cat /dev/tty; HOLD & cat; sleep MARK"),
        ("broken characters", "HOLD & printf '\\xff\\xc3\\0'; wait"),
        ("closes its output", "HOLD & exec >&- 2>&-; wait"),
    ];
    let world = World::new();
    let mark = marker(13);
    // Its argument is the mark before and after it has said so.
    let hold = format!("sh -c 'echo ready; exec sleep {mark}' {mark}");
    for ((name, script), seq) in vectors.into_iter().zip((10..).step_by(10)) {
        let script = script.replace("HOLD", &hold).replace("MARK", &mark);
        world.start(seq, &script).await;
        let outlasts = world.run(&world.timed(seq + 1, &script, 200)).await;
        assert_eq!(code(&outlasts), Some(ErrorCode::CommandTimeout), "{name}: {}", outlasts.output);
        assert!(last_line(&outlasts).starts_with(&format!("[job_{}: running for ", seq + 1)), "{name}");
        for job in [seq, seq + 1] {
            let mut said = world.more(seq + 2, job, 0).await;
            while !said.contains("ready") {
                let since = said.rsplit_once("since: ").unwrap().1.trim_end_matches(']').parse().unwrap();
                said = world.more(seq + 2, job, since).await;
            }
        }
        assert_ne!(alive(&mark), Vec::<String>::new(), "{name}");
        for job in [seq, seq + 1] {
            let killed = world.kill(seq + 3, job).await;
            assert!(killed.output.starts_with(&format!("job_{job} is ended")), "{name}: {}", killed.output);
        }
        assert_eq!(alive(&mark), Vec::<String>::new(), "{name}");
    }
    assert_eq!(world.run(&world.ask(&BASH_LIST, 900, 1, &json!({}))).await.output, "no jobs are running");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_output_in_the_background_ends_by_itself_and_holds_nobody_up() {
    let world = World::new();
    world.start(1, "yes").await;
    world.start(2, "cat /dev/urandom").await;
    assert!(world.run(&world.bash(3, "echo meanwhile")).await.output.starts_with("meanwhile\n"));
    for (seq, job) in [(4, 1), (5, 2)] {
        let told = world.ended(seq, job).await;
        assert!(told.ends_with(&format!("[job_{job}: killed: too much output; since: {SPOOL_BYTES_MAX}]")), "{job}");
        // At most what the model is shown of an output, with every broken byte as three, and the last line.
        assert!(told.len() < 60_000, "{}", told.len());
    }
    world.end().await;
}

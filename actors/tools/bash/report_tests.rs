use expect_test::expect;

use super::*;

fn status(cause: Cause, exit: Option<Exit>) -> Status {
    Status {
        version: 1,
        seq: 12,
        attempt: 1,
        boot_id: "boot".to_owned(),
        end: End { cause, exit, detail: None },
        started_ms: 0,
        ended_ms: 0,
        duration_ms: 3210,
        bytes: 0,
        lost_bytes: 0,
        survivors: 0,
        survivors_end: None,
        last_input: None,
    }
}

fn told(status: &Status, survives: bool, output: &str, note: Option<&str>) -> String {
    let outcome = ended(Ended { job: JobId(12), status, survives, output, note });
    let verdict = outcome.error.as_ref().map_or("ok", |error| error.code.as_str());
    if let Some(error) = &outcome.error {
        assert!(outcome.output.starts_with(&format!("{error}\n")), "the first line is the error");
    }
    format!("<{verdict}>\n{}", outcome.output)
}

#[test]
fn the_end_of_a_command_is_told_exactly() {
    let rows = [
        (Cause::Exited, Some(Exit::Code(0))),
        (Cause::Exited, Some(Exit::Code(1))),
        (Cause::Exited, Some(Exit::Code(44))),
        (Cause::Exited, Some(Exit::Signal(11))),
        (Cause::Exited, Some(Exit::Signal(40))),
        (Cause::Exited, None),
        (Cause::Timeout, Some(Exit::Signal(15))),
        (Cause::Killed, Some(Exit::Signal(9))),
        (Cause::SpoolFull, Some(Exit::Signal(15))),
        (Cause::Lease, Some(Exit::Signal(15))),
        (Cause::Shutdown, None),
        (Cause::SpawnFailed, None),
    ];
    let told: Vec<_> = rows.into_iter().map(|(cause, exit)| told(&status(cause, exit), false, "out\n", None)).collect();
    expect![[r#"
        <ok>
        out
        [exit 0]
        <COMMAND_FAILED>
        COMMAND_FAILED: exit code 1
        out
        [exit 1]
        <COMMAND_FAILED>
        COMMAND_FAILED: exit code 44
        out
        [exit 44]
        <COMMAND_FAILED>
        COMMAND_FAILED: killed by signal 11 (SIGSEGV)
        out
        [signal 11 (SIGSEGV)]
        <COMMAND_FAILED>
        COMMAND_FAILED: killed by signal 40
        out
        [signal 40]
        <INTERRUPTED>
        INTERRUPTED: the command ended, and how was not recorded
        out
        [ended]
        <COMMAND_FAILED>
        COMMAND_FAILED: it was killed after 3.2 s: no command may run longer
        out
        [killed: no command may run longer]
        <COMMAND_FAILED>
        COMMAND_FAILED: it was killed after 3.2 s, as was asked
        out
        [killed]
        <COMMAND_FAILED>
        COMMAND_FAILED: it put out more than 67108864 bytes and was killed after 3.2 s; filter its output, or send it to a file
        out
        [killed: too much output]
        <INTERRUPTED>
        INTERRUPTED: the runtime was gone, nobody waited for the command, and it was killed after 3.2 s; what it did until then stands
        out
        [killed: the runtime was gone]
        <INTERRUPTED>
        INTERRUPTED: the run was stopped and the command was killed after 3.2 s; what it did until then stands
        out
        [killed: the run was stopped]
        <COMMAND_FAILED>
        COMMAND_FAILED: it could not be started: no reason is known
        out
        [never started]"#]].assert_eq(&told.join("\n"));
}

#[test]
fn what_else_is_to_be_said_stands_before_the_last_line() {
    let left = Status { survivors: 2, lost_bytes: 7, ..status(Cause::Exited, Some(Exit::Code(0))) };
    let told = [
        told(&left, true, "no newline", Some("[a note]")),
        told(&left, false, "", None),
        told(&Status { survivors: 1, ..status(Cause::Exited, Some(Exit::Code(2))) }, true, "", None),
    ];
    expect![[r#"
        <ok>
        no newline
        [7 bytes of output are lost: they could not be written]
        [a note]
        [still running: job_12, 2 processes; see bash_output, bash_kill]
        [exit 0]
        <ok>
        [7 bytes of output are lost: they could not be written]
        [exit 0]
        <COMMAND_FAILED>
        COMMAND_FAILED: exit code 2
        [still running: job_12, 1 process; see bash_output, bash_kill]
        [exit 2]"#]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn of_an_interrupted_command_everything_known_is_told() {
    let silent = Evidence {
        why: "the keeper died",
        started: None,
        last_output: None,
        spool: Path::new("/data/outputs/t/12.out"),
        bytes: 0,
        output: "",
    };
    let loud = Evidence {
        started: Some(Timestamp(1_767_225_600_000)),
        last_output: Some(Timestamp(1_767_225_601_500)),
        bytes: 5,
        output: "half\n",
        ..silent
    };
    let told = [silent, loud].map(|evidence| interrupted(evidence).output);
    expect![[r"
        INTERRUPTED: the keeper died; its exit status was not recorded, and how far it got is not known; it had put nothing out. Look at what it changed before you run it again
        INTERRUPTED: the keeper died; its exit status was not recorded, and how far it got is not known; it was started at 2026-01-01T00:00:00.000Z; it last put something out at 2026-01-01T00:00:01.500Z: 5 bytes, in /data/outputs/t/12.out. Look at what it changed before you run it again
        half
    "]].assert_eq(&told.join("\n"));
}

#[test]
fn jobs_are_told_with_what_to_do_next() {
    let running = JobState {
        seq: 12,
        attempt: 1,
        label: "sleep 100".to_owned(),
        pid: 4,
        started_ms: 0,
        elapsed_ms: 1500,
        bytes: 42,
        status: None,
    };
    let left = Status { survivors: 1, ..status(Cause::Exited, Some(Exit::Code(0))) };
    let ended_later = Status { survivors_end: Some(Cause::SpoolFull), ..left.clone() };
    let survivor = JobState { seq: 13, label: "server &".to_owned(), status: Some(left.clone()), ..running.clone() };
    let told = [
        job_list(&[]),
        job_list(&[running.clone(), survivor]),
        job_output(JobId(12), "x", 42, &JobView::Running(&running)),
        job_output(JobId(12), "", 0, &JobView::Ended { status: &left, survives: true }),
        job_output(JobId(12), "x\n", 2, &JobView::Ended { status: &left, survives: false }),
        job_output(JobId(12), "", 0, &JobView::Ended { status: &ended_later, survives: false }),
        job_output(JobId(12), "", 0, &JobView::Unknown),
        killed(JobId(12), Some(&status(Cause::Killed, Some(Exit::Signal(15)))), false),
        killed(JobId(12), Some(&left), true),
        killed(JobId(12), None, true),
    ];
    expect![[r#"
        no jobs are running
        job_12  running for 1.5 s  42 bytes of output  sleep 100
        job_13  exit 0, 1 process still running for 1.5 s  42 bytes of output  server &
        x
        [job_12: running for 1.5 s; since: 42]
        [job_12: exit 0; 1 process still running; since: 0]
        x
        [job_12: exit 0; since: 2]
        [job_12: exit 0; what it left running was killed: too much output; since: 0]
        [job_12: not running any more; how it ended was not recorded; since: 0]
        job_12 is ended, with everything it started [killed]
        job_12 had ended already [exit 0]
        job_12 had ended already"#]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn a_call_that_stops_waiting_says_where_its_command_went_on() {
    let running = JobState {
        seq: 12,
        attempt: 1,
        label: "make".to_owned(),
        pid: 4,
        started_ms: 0,
        elapsed_ms: 2040,
        bytes: 5,
        status: None,
    };
    let late = |output: &str, note| goes_on(&running, Duration::from_secs(2), output, note).output;
    let told = [late("half\n", None), late("", Some("[a note]")), started(JobId(12)).output, had_started(JobId(12))];
    expect![[r#"
        COMMAND_TIMEOUT: it is still running after 2.0 s and goes on as job_12; wait for it with bash_output (wait), end it with bash_kill
        half
        [job_12: running for 2.0 s; since: 5]
        COMMAND_TIMEOUT: it is still running after 2.0 s and goes on as job_12; wait for it with bash_output (wait), end it with bash_kill
        [a note]
        [job_12: running for 2.0 s; since: 5]
        [job_12 was started in the background; see bash_output, bash_input, bash_kill]
        [job_12 was started in the background and has ended since]"#]].assert_eq(&told.join("\n"));
    assert_eq!(
        goes_on(&running, Duration::ZERO, "", None).error.map(|error| error.code),
        Some(ErrorCode::CommandTimeout)
    );
}

#[test]
fn what_a_job_was_given_is_told_with_where_its_answer_begins() {
    let over = status(Cause::Exited, Some(Exit::Code(0)));
    let told = [
        given(JobId(12), 1, false, 42, None),
        given(JobId(12), 7, true, 42, None),
        given(JobId(12), 0, true, 42, None),
        given(JobId(12), 2, false, 42, Some(&over)),
    ];
    expect![[r#"
        1 byte given to job_12 [since: 42]
        7 bytes given to job_12, and its input is ended [since: 42]
        the input of job_12 is ended [since: 42]
        2 bytes given to job_12; it has ended since [exit 0]"#]]
    .assert_eq(&told.join("\n"));
}

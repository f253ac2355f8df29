use super::*;

/// F11, F12: the terminal alone makes an answer count, however the body is framed.
#[tokio::test]
async fn a_body_without_its_terminal_is_a_failure_however_it_is_framed() {
    let finished = SAID.to_owned() + STOPPED;
    let done = finished.clone() + DONE;
    let cut_length = {
        let mut bytes = response("200 OK", "", &finished);
        bytes.truncate(bytes.len() - 1);
        bytes
    };
    let mut cut_chunks = chunked(&finished, 16);
    cut_chunks.pop();
    let (cut, senseless) = (Some(FailureClass::Retry { after: None }), Some(FailureClass::Senseless));
    let rows = [
        (vec![endless(&done)], None),
        (vec![response("200 OK", "", &done)], None),
        (chunked(&done, 1), None),
        (vec![endless(&finished)], senseless),
        (vec![endless(&done[..done.len() - 4])], senseless),
        (vec![response("200 OK", "", &finished)], senseless),
        (chunked(&finished, 16), senseless),
        (vec![endless(SAID)], cut),
        (vec![response("200 OK", "", SAID)], cut),
        (chunked(SAID, 16), cut),
        (vec![cut_length], cut),
        (cut_chunks, cut),
        (vec![b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()], cut),
        (vec![endless("")], cut),
    ];
    for (at, (pieces, expected)) in rows.into_iter().enumerate() {
        let outcome = ask_for(Play::Close(pieces)).await;
        assert_eq!(outcome.err().map(|failure| failure.class), expected, "row {at}");
    }
}

#[tokio::test]
async fn an_answer_that_is_complete_waits_for_nothing_more() {
    let begun = Instant::now();
    let mut pieces = chunked(&(SAID.to_owned() + DONE), 999);
    pieces.pop();
    assert!(ask_for(Play::Stall(pieces)).await.is_ok());
    assert!(ask_for(Play::Stall(vec![endless(&(SAID.to_owned() + DONE))])).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// F10.
#[tokio::test]
async fn a_stall_ends_by_its_deadline_and_comments_are_no_progress() {
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(20));
    let comments = vec![b": still here\n\n".to_vec(); 3];
    let rows = [
        (Play::Stall(Vec::new()), short, long, "no first byte"),
        (Play::Stall(vec![endless(SAID)]), long, short, "no more data"),
        (Play::Stall([vec![endless("")], comments].concat()), long, short, "no more data"),
    ];
    for (play, first_byte, idle, expected) in rows {
        let deadlines = Deadlines { first_byte, idle, total: long * 2 };
        let patience = Patience::Bounded { attempts_max: 1, total_max: long };
        let policy = RetryPolicy { deadlines, ..RetryPolicy::with(patience) };
        let mock = Mock::start(vec![play]).await;
        let route = Route::new(Arc::new(gateway(&mock.base)), policy, Arc::new(System));
        let begun = Instant::now();
        let failure = route.complete(request(), no_sink(), |_| {}).await.unwrap_err();
        assert!(failure.error.message.contains(expected), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

/// F11: every framing, at every byte of the head and of the body, by a close and by a reset.
#[tokio::test]
async fn a_recorded_stream_that_is_cut_anywhere_fails_and_the_next_request_is_whole() {
    let body = recorded();
    // Of a size that leaves the terminal in one piece.
    let size = (50..70).find(|size| body.len() % size >= DONE.len()).unwrap();
    let framings = [endless(&body), response("200 OK", "", &body), chunked(&body, size).concat()];
    for (framing, bytes) in framings.iter().enumerate() {
        let terminal = bytes.windows(12).position(|window| window == b"data: [DONE]").unwrap();
        // Without a length, what ends behind the terminal is whole: there its line may lack its end.
        let last = terminal + if framing == 0 { DONE.len() - 2 } else { DONE.len() };
        let cut = |at: usize| {
            let piece = vec![bytes[..at].to_vec()];
            [Play::Close(piece.clone()), Play::Reset(piece)]
        };
        let whole = Play::Keep(chunked(&body, 999));
        let mock = Mock::start((1..last).flat_map(cut).chain([whole]).collect()).await;
        let gateway = gateway(&mock.base);
        for (at, how) in (1..last).flat_map(|at| [(at, "close"), (at, "reset")]) {
            let failure = gateway.complete(request(), no_sink()).await.unwrap_err();
            let cut = failure.class == FailureClass::Retry { after: None };
            // A clean end behind the reason to stop may be the server's own doing.
            let finished = failure.class == FailureClass::Senseless && framing == 0 && at > terminal - 2;
            assert!(cut || finished, "framing {framing}, {how} at {at}: {failure:?}");
        }
        assert_eq!(gateway.complete(request(), no_sink()).await.unwrap().calls.len(), 2);
        assert_eq!(mock.seen().len(), 2 * last - 1);
        assert!(mock.seen().iter().all(|seen| seen.body == request().body_bytes()));
    }
}

/// F10: bytes are no data until they are an event.
#[tokio::test]
async fn a_byte_at_a_time_that_makes_no_event_is_no_progress() {
    let long = Duration::from_secs(20);
    let deadlines = Deadlines { first_byte: long, idle: Duration::from_millis(150), total: long };
    let policy = RetryPolicy { deadlines, ..RetryPolicy::with(Patience::Bounded { attempts_max: 1, total_max: long }) };
    for endless_event in ["data: \"", ": "] {
        let body = endless_event.to_owned() + &"x".repeat(10_000);
        let head = endless("");
        let play = Play::Dribble(head, body.into_bytes(), Duration::from_millis(5));
        let mock = Mock::start(vec![play]).await;
        let route = Route::new(Arc::new(gateway(&mock.base)), policy, Arc::new(System));
        let begun = Instant::now();
        let failure = route.complete(request(), no_sink(), |_| {}).await.unwrap_err();
        assert!(failure.error.message.contains("no more data"), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

/// F10: signs of life all the time, and no end.
#[tokio::test]
async fn an_answer_without_an_end_ends_by_the_total_deadline() {
    let long = Duration::from_secs(20);
    let deadlines = Deadlines { first_byte: long, idle: long, total: Duration::from_millis(200) };
    let policy = RetryPolicy { deadlines, ..RetryPolicy::with(Patience::Bounded { attempts_max: 1, total_max: long }) };
    let play = Play::Dribble(endless(""), SAID.repeat(1000).into_bytes(), Duration::from_millis(1));
    let mock = Mock::start(vec![play]).await;
    let route = Route::new(Arc::new(gateway(&mock.base)), policy, Arc::new(System));
    let failure = route.complete(request(), no_sink(), |_| {}).await.unwrap_err();
    assert!(failure.error.message.contains("no whole answer"), "{failure}");
}

/// F12, and lengths that lie.
#[tokio::test]
async fn what_a_server_sends_wrongly_fails_in_its_class_and_the_next_request_is_whole() {
    let said = |length: &str, body: &str| vec![format!("HTTP/1.1 200 OK\r\n{length}\r\n{body}").into_bytes()];
    let partial = SAID.to_owned();
    let whole = recorded();
    let short = format!("Content-Length: {}\r\n", whole.len() - 40);
    let long = format!("Content-Length: {}\r\n", whole.len() + 40);
    let two = format!("Content-Length: {}\r\nContent-Length: 7\r\n", whole.len());
    let huge = format!("data: {}", "x".repeat(9 * 1024 * 1024));
    let in_band = "data: {\"error\":{\"code\":502,\"message\":\"gone\"},\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n";
    let (cut, senseless) = (FailureClass::Retry { after: None }, FailureClass::Senseless);
    let said_wrongly = |name, play| (name, play, senseless, ErrorCode::GatewayProtocol);
    let broken = |name, play| (name, play, cut, ErrorCode::GatewayUnreachable);
    let rows = [
        said_wrongly("malformed event", Play::Keep(chunked(&(partial.clone() + "data: {nonsense\n\n" + DONE), 50))),
        said_wrongly("event over 8 MiB", Play::Close(vec![endless(&huge)])),
        said_wrongly("no [DONE]", Play::Close(vec![endless(&(partial.clone() + STOPPED))])),
        said_wrongly("no [DONE] in chunks", Play::Keep(chunked(&(partial.clone() + STOPPED), 50))),
        broken("length too short", Play::Keep(said(&short, &whole))),
        (
            "empty completion",
            Play::Keep(chunked(&(STOPPED.to_owned() + DONE), 50)),
            FailureClass::Empty,
            ErrorCode::GatewayProtocol,
        ),
        broken("error in band", Play::Keep(chunked(&(partial.clone() + in_band + DONE), 50))),
        broken("two lengths", Play::Close(said(&two, &whole))),
        broken("a length that is none", Play::Close(said("Content-Length: 1e3\r\n", &whole))),
        broken("chunks that are none", Play::Close(said("Transfer-Encoding: chunked\r\n", &whole))),
        broken("not HTTP", Play::Close(vec![b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()])),
        broken("accept then reset", Play::Reset(vec![])),
    ];
    for (name, play, class, code) in rows {
        let failure = failure_before_a_whole_answer(play).await;
        assert_eq!((failure.class, failure.error.code), (class, code), "{name}: {failure:?}");
        assert!(failure.error.message.len() < 2500, "{name}");
    }
    // The terminal came: a length that promises more takes nothing back.
    assert_eq!(ask_for(Play::Close(said(&long, &whole))).await.unwrap().calls.len(), 2);
    // Chunks count and a length beside them does not, as RFC 9112 has it.
    let mut both = chunked(&whole, 50);
    both[0] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let answer = ask_for(Play::Close(both)).await;
    assert!(answer.is_err() || answer.unwrap().calls.len() == 2);
}

/// F12: what comes behind the end changes nothing, on this connection or the next.
#[tokio::test]
async fn a_second_end_and_what_follows_it_are_ignored() {
    let body = recorded() + DONE + SAID + "data: {nonsense\n\n";
    let mock = Mock::start(vec![Play::Keep(chunked(&body, 50)), Play::Keep(chunked(&recorded(), 50))]).await;
    let gateway = gateway(&mock.base);
    for _ in 0..2 {
        assert_eq!(gateway.complete(request(), no_sink()).await.unwrap().calls.len(), 2);
    }
}

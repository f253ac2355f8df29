use super::*;

/// F11: at the places that matter.
#[tokio::test]
async fn a_cut_is_a_failure_however_the_body_is_framed() {
    let whole = SAID.to_owned() + STOPPED;
    let done = whole.clone() + DONE;
    let cut_length = {
        let mut bytes = response("200 OK", "", &whole);
        bytes.truncate(bytes.len() - 1);
        bytes
    };
    let mut cut_chunks = chunked(&whole, 16);
    cut_chunks.pop();
    let rows = [
        (vec![endless(&done)], true),
        (vec![endless(&whole)], false),
        (vec![endless(&done[..done.len() - 4])], false),
        (vec![response("200 OK", "", &whole)], true),
        (vec![cut_length], false),
        (chunked(&whole, 16), true),
        (chunked(&done, 1), true),
        (cut_chunks, false),
        (vec![b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()], false),
        (vec![endless("")], false),
    ];
    for (at, (pieces, counts)) in rows.into_iter().enumerate() {
        let outcome = ask_for(Play::Close(pieces)).await;
        assert_eq!(outcome.is_ok(), counts, "row {at}: {outcome:?}");
        let class = outcome.err().map(|failure| failure.class);
        assert!(class.is_none_or(|class| class == FailureClass::Retry { after: None }));
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

/// F11: every framing, at places all over the stream, cut by a close and by a reset.
#[tokio::test]
async fn a_recorded_stream_that_is_cut_anywhere_fails_and_the_next_request_is_whole() {
    let body = recorded();
    let terminal = body.len() - "\n\n".len();
    let framings = [endless(&body), response("200 OK", "", &body), chunked(&body, 61).concat()];
    for (framing, bytes) in framings.into_iter().enumerate() {
        // Of a body without a length, what ends behind the terminal is whole; of the others the answer is, too.
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let last = if framing == 2 { bytes.len() - 100 } else { head + terminal };
        for cut in (1..last).step_by(97).chain([last - 1]) {
            let piece = vec![bytes[..cut].to_vec()];
            let play = if cut % 2 == 0 { Play::Close(piece) } else { Play::Reset(piece) };
            let failure = failure_before_a_whole_answer(play).await;
            assert_eq!(failure.class, FailureClass::Retry { after: None }, "framing {framing}, cut at {cut}");
        }
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
    let rows = [
        (
            "malformed event",
            Play::Keep(chunked(&(partial.clone() + "data: {nonsense\n\n" + DONE), 50)),
            ErrorCode::GatewayProtocol,
        ),
        ("event over 8 MiB", Play::Close(vec![endless(&huge)]), ErrorCode::GatewayProtocol),
        ("no [DONE]", Play::Close(vec![endless(&(partial.clone() + STOPPED))]), ErrorCode::GatewayUnreachable),
        ("error in band", Play::Keep(chunked(&(partial.clone() + in_band + DONE), 50)), ErrorCode::GatewayUnreachable),
        ("empty completion", Play::Keep(chunked(&(STOPPED.to_owned() + DONE), 50)), ErrorCode::GatewayProtocol),
        ("length too short", Play::Keep(said(&short, &whole)), ErrorCode::GatewayProtocol),
        ("two lengths", Play::Close(said(&two, &whole)), ErrorCode::GatewayUnreachable),
        ("a length that is none", Play::Close(said("Content-Length: 1e3\r\n", &whole)), ErrorCode::GatewayUnreachable),
        (
            "chunks that are none",
            Play::Close(said("Transfer-Encoding: chunked\r\n", &whole)),
            ErrorCode::GatewayUnreachable,
        ),
        ("not HTTP", Play::Close(vec![b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()]), ErrorCode::GatewayUnreachable),
        ("accept then reset", Play::Reset(vec![]), ErrorCode::GatewayUnreachable),
    ];
    for (name, play, code) in rows {
        let failure = failure_before_a_whole_answer(play).await;
        let retried = matches!(failure.class, FailureClass::Retry { after: None });
        assert!(retried && failure.error.code == code, "{name}: {failure:?}");
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

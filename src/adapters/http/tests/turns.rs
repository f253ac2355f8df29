use super::*;

#[tokio::test]
async fn a_turn_gets_through_a_bad_gateway_with_one_key_and_one_body() {
    let whole = SAID.to_owned() + STOPPED + DONE;
    let plays = vec![
        Play::Refuse,
        Play::Keep(vec![response("503 X", "Retry-After: 0\r\n", "")]),
        Play::Close(vec![endless(SAID)]),
        Play::Keep(vec![response("200 OK", "", "<html>")]),
        Play::Keep(chunked(&whole, 3)),
    ];
    let mock = Mock::start(plays).await;
    let policy = RetryPolicy { backoff: Duration::from_millis(1), ..RetryPolicy::default() };
    let route = Route::new(Arc::new(gateway(&mock.base)), policy, Arc::new(System));
    let answer = route.complete(request(), no_sink(), |_| {}).await.unwrap();
    assert_eq!(answer.text, "hi");
    let seen = mock.seen();
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter()
            .all(|one| one.body == seen[0].body && one.header("idempotency-key") == seen[0].header("idempotency-key"))
    );
}

/// F05.
#[tokio::test]
async fn a_token_that_is_replaced_in_time_is_taken_for_the_second_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old").unwrap();
    let plays = vec![
        Play::Keep(vec![response("401 X", "", "")]),
        Play::Keep(vec![response("200 OK", "", &(SAID.to_owned() + DONE))]),
    ];
    let mock = Mock::start(plays).await;
    let upstream = HttpGateway::new(&mock.base, TokenSource::File(TokenFile::new(&path)), Arc::new(System)).unwrap();
    let route = Route::new(Arc::new(upstream), RetryPolicy::default(), Arc::new(System));
    let replace = |_| std::fs::write(&path, "new").unwrap();
    route.complete(request(), no_sink(), replace).await.unwrap();
    let tokens: Vec<_> = mock.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    assert_eq!(tokens, [Some("Bearer old".into()), Some("Bearer new".into())]);
}

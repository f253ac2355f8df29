use super::*;

#[tokio::test]
async fn a_request_carries_its_bytes_its_key_and_its_token() {
    let mock = Mock::start(vec![Play::Keep(vec![response("200 OK", "", &(SAID.to_owned() + DONE))])]).await;
    assert_eq!(ask(&mock).await.unwrap().text, "hi");
    let seen = mock.seen().remove(0);
    assert!(seen.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.body, request().body_bytes());
    assert_eq!(seen.header("content-length"), Some(&*request().body_bytes().len().to_string()));
    assert_eq!(seen.header("transfer-encoding"), None);
    assert_eq!(seen.header("authorization"), Some("Bearer tok-123456"));
    assert_eq!(seen.header("idempotency-key"), Some(&*request().idempotency_key()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let whole = SAID.to_owned() + DONE;
    let plays = vec![
        Play::Keep(vec![chunked(&whole, 10).concat()]),
        Play::Keep(vec![response("200 OK", "", &whole)]),
        Play::Keep(vec![chunked(&whole, 999).concat()]),
    ];
    let mock = Mock::start(plays).await;
    let gateway = gateway(&mock.base);
    for _ in 0..3 {
        gateway.complete(request(), no_sink()).await.unwrap();
    }
    assert_eq!(mock.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn a_base_is_taken_with_and_without_v1_and_nothing_else() {
    for (base, expected) in [
        ("http://h", "http://h/v1/chat/completions"),
        ("http://h:1/", "http://h:1/v1/chat/completions"),
        (" https://h/v1\n", "https://h/v1/chat/completions"),
        ("https://h/v1/", "https://h/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
        ("https://h/a//", "https://h/a/v1/chat/completions"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example/v1/chat/completions"),
    ] {
        assert_eq!(endpoint(base, Dialect::OpenAi).unwrap().as_str(), expected);
    }
    for (base, expected) in [
        ("h:3000", "http://"),
        ("ftp://h", "http://"),
        ("", "is not one"),
        ("https://bücher.example", "xn--"),
        ("http://u:hush@h", "credentials"),
        ("http://h?key=hush", "query"),
        ("http://h#x", "query"),
        ("http://169.254.169.254/latest", "no gateway can be"),
        ("http://0xa9fea9fe", "no gateway can be"),
        ("http://[::ffff:169.254.169.254]", "no gateway can be"),
        ("http://[fe80::1]", "no gateway can be"),
        ("http://0", "no gateway can be"),
    ] {
        let error = endpoint(base, Dialect::OpenAi).unwrap_err();
        assert!(error.code == ErrorCode::InvalidConfig && error.message.contains(expected), "{base}: {error}");
        assert!(!error.message.contains("hush"));
    }
}

use super::*;

/// F03, F04, F06, F07, F08.
#[tokio::test]
async fn every_status_is_sorted_and_its_body_quoted_shortly_and_harmlessly() {
    let retry = FailureClass::Retry { after: None };
    let long = "x".repeat(100_000);
    let rows = [
        (
            "500 X",
            "",
            "oops \u{1b}[2J",
            retry,
            ErrorCode::GatewayUnreachable,
            "HTTP 500, the gateway could not answer: oops [2J",
        ),
        ("502 X", "", &*long, retry, ErrorCode::GatewayUnreachable, "HTTP 502"),
        (
            "503 X",
            "",
            "<html>down</html>",
            FailureClass::Overloaded { after: None },
            ErrorCode::GatewayUnreachable,
            "down",
        ),
        ("504 X", "", "", retry, ErrorCode::GatewayUnreachable, "504"),
        ("529 X", "", "", FailureClass::Overloaded { after: None }, ErrorCode::GatewayUnreachable, "529"),
        ("408 X", "", "", retry, ErrorCode::GatewayUnreachable, "408"),
        (
            "400 X",
            "",
            "{\"error\":{\"message\":\"no tools\"}}",
            FailureClass::Fatal,
            ErrorCode::GatewayRejected,
            ": no tools",
        ),
        ("400 X", "", "maximum context length", FailureClass::TooLong, ErrorCode::GatewayRejected, "context"),
        ("413 X", "", "", FailureClass::TooLong, ErrorCode::GatewayRejected, "too large"),
        ("422 X", "", "", FailureClass::Fatal, ErrorCode::GatewayRejected, "422"),
        ("401 X", "", "bad key tok-123456", FailureClass::Credentials, ErrorCode::GatewayRefused, "bad key ***"),
        ("403 X", "", "", FailureClass::Refused, ErrorCode::GatewayRefused, "403"),
        ("404 X", "", "", FailureClass::Refused, ErrorCode::GatewayRejected, "check the gateway's URL"),
        ("405 X", "", "", FailureClass::Refused, ErrorCode::GatewayRejected, "check the gateway's URL"),
        (
            "307 X",
            "Location: http://127.0.0.1:9/\r\n",
            "",
            FailureClass::Refused,
            ErrorCode::GatewayRejected,
            "redirects",
        ),
        ("201 X", "", "", retry, ErrorCode::GatewayProtocol, "HTTP 201"),
        ("200 X", "", "", retry, ErrorCode::GatewayProtocol, "empty"),
        ("200 X", "Content-Type: text/html\r\n", "<p>Sign in", retry, ErrorCode::GatewayProtocol, "Sign in"),
        ("200 X", "", "{\"error\":{\"code\":429}}", retry, ErrorCode::GatewayUnreachable, "429"),
    ];
    for (status, headers, body, class, code, message) in rows {
        let failure = ask_for(Play::Keep(vec![response(status, headers, body)])).await.unwrap_err();
        assert_eq!((failure.class, failure.error.code), (class, code), "{status} {body:.40}");
        let said = &failure.error.message;
        assert!(said.contains(message) && said.len() < 2200 && !said.contains(TOKEN), "{status}: {said}");
    }
    let failure = ask_for(Play::Close(vec![b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()])).await.unwrap_err();
    assert_eq!(failure.error.code, ErrorCode::GatewayProtocol);
}

/// F01, F02.
#[tokio::test]
async fn retry_after_is_understood_and_bounded() {
    let rows: &[(&str, Option<u64>)] = &[
        ("Retry-After: 7\r\n", Some(7000)),
        ("retry-after: 0\r\n", Some(0)),
        ("Retry-After: 1.5\r\n", Some(1500)),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: inf\r\n", None),
        ("Retry-After: soon\r\n", None),
        ("Retry-After: 1000000000\r\n", Some(300_000)),
        ("Retry-After: 1e300\r\n", Some(300_000)),
        ("Retry-After: soon\r\nRetry-After: 5\r\n", Some(5000)),
        ("Retry-After: 4\r\nRetry-After: 5\r\n", Some(4000)),
        ("retry-after-ms: 20\r\nRetry-After: 5\r\n", Some(20)),
        ("Retry-After: Wed, 31 Dec 2025 23:59:00 GMT\r\n", Some(0)),
        ("Retry-After: Thu, 01 Jan 2026 00:00:09 GMT\r\n", Some(9000)),
        ("Date: Thu, 01 Jan 2026 00:00:06 GMT\r\nRetry-After: Thu, 01 Jan 2026 00:00:09 GMT\r\n", Some(3000)),
        ("Retry-After: Thu, 31 Dec 2099 00:00:00 GMT\r\n", Some(300_000)),
    ];
    for (headers, expected) in rows {
        let failure = ask_for(Play::Keep(vec![response("429 X", headers, "")])).await.unwrap_err();
        let after = expected.map(Duration::from_millis);
        assert_eq!(failure.class, FailureClass::Retry { after }, "{headers}");
    }
}

/// F07: the key goes nowhere else.
#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let other = Mock::start(vec![Play::Keep(vec![response("200 OK", "", &(SAID.to_owned() + DONE))])]).await;
    for code in [301, 302, 303, 307, 308] {
        let headers = format!("Location: {}/v1/chat/completions\r\n", other.base);
        let failure = ask_for(Play::Keep(vec![response(&format!("{code} X"), &headers, "")])).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Refused, "{code}");
    }
    assert!(other.seen().is_empty());
}

/// Behind a gateway of ours: its own key is refused, and not the token that this side has.
#[tokio::test]
async fn a_refused_key_of_the_gateway_s_own_is_not_asked_for_again() {
    let body =
        "{\"error\":{\"message\":\"no\",\"type\":\"upstream_error\",\"code\":\"upstream_refused\",\"param\":null}}";
    let failure = ask_for(Play::Keep(vec![response("502 X", "", body)])).await.unwrap_err();
    assert_eq!((failure.class, failure.error.code), (FailureClass::Refused, ErrorCode::GatewayRefused));
    assert!(failure.error.message.contains("the gateway's own key"), "{failure}");
}

/// F04, F06, F07: what no repetition helps with is asked once.
#[tokio::test]
async fn what_is_refused_is_not_asked_again() {
    for status in ["400 X", "402 X", "403 X", "404 X", "405 X", "413 X", "422 X", "302 X"] {
        let mock = Mock::start(vec![Play::Keep(vec![response(status, "", "")]); 3]).await;
        let route = Route::new(Arc::new(gateway(&mock.base)), RetryPolicy::default(), Arc::new(System));
        assert!(route.complete(request(), no_sink(), |_| {}).await.is_err());
        assert_eq!(mock.seen().len(), 1, "{status}");
    }
}

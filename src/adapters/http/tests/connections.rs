use super::*;

/// F09.
#[tokio::test]
async fn what_does_not_connect_names_its_stage_and_never_the_token() {
    let refused = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", gone.local_addr().unwrap())
    };
    let mock = Mock::start(vec![Play::Refuse]).await;
    for (base, stage) in
        [(&*refused, "(connect)"), ("http://no-such-host.invalid", "(dns)"), (&*mock.base, "(request)")]
    {
        let failure = gateway(base).complete(request(), no_sink()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Retry { after: None });
        assert_eq!(failure.error.code, ErrorCode::GatewayUnreachable);
        let message = failure.error.message;
        assert!(message.contains(stage) && !message.contains(TOKEN), "{base}: {message}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_talked_to_without_it() {
    let mock = Mock::start(vec![Play::Close(vec![response("200 OK", "", SAID)])]).await;
    let https = mock.base.replace("http://", "https://");
    let gateway = HttpGateway::new(&https, TokenSource::None, Arc::new(System)).unwrap();
    let call = gateway.complete(request(), no_sink());
    let outcome = tokio::time::timeout(Duration::from_millis(300), call).await;
    assert!(!matches!(outcome, Ok(Ok(_))));
    assert!(mock.seen().is_empty());
}

#[tokio::test]
async fn a_name_is_resolved_by_the_system() {
    let mock = Mock::start(vec![Play::Keep(vec![response("200 OK", "", &(SAID.to_owned() + DONE))])]).await;
    let base = mock.base.replace("127.0.0.1", "localhost");
    assert_eq!(gateway(&base).complete(request(), no_sink()).await.unwrap().text, "hi");
}

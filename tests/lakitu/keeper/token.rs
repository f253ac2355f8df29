//! Tokens that are replaced under the eyes of a command.

use std::fs;

use lakitu::adapters::{Cover, Secret, TokenFile};
use lakitu_keeper::Namespaces;
use lakitu_keeper::protocol::{Call, Exit};

use super::scene::{Home, Pulse, exited};

/// A session's token, as far as anybody here looks at it.
const OLD: &str = "e30.eyJhdWQiOiJsYWtpdHUtZ2F0ZXdheSIsImV4cCI6MX0.b2xk";
const NEW: &str = "e30.eyJhdWQiOiJsYWtpdHUtZ2F0ZXdheSIsImV4cCI6Mn0.bmV3";

/// Opens them again and again, until it is let go.
const LOOKS: &str = r#"
import glob, os
found = set()
print(flush=True, file=open("pulse", "w"))
while not os.path.exists("over"):
    for name in glob.glob("../tokens/*") + glob.glob("../tokens/.*/*"):
        try:
            found.add(open(name).read())
        except OSError:
            pass
print([text for text in found if text])
"#;

#[test]
fn no_moment_of_two_hundred_replacements_shows_a_token() {
    let mut home = Home::new();
    let tokens = home.root.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    fs::write(tokens.join("readme"), "").unwrap();
    let paths: Vec<_> = (0..200).map(|at| tokens.join(format!("token-{at}"))).collect();
    let mut spec = home.spec(Namespaces::Auto);
    for path in &paths {
        fs::write(path, OLD).unwrap();
        TokenFile::prepare(path);
        spec.hidden.extend(Cover::of(path, &[]).paths);
    }
    let files: Vec<TokenFile> = paths.iter().map(|path| TokenFile::new(path)).collect();
    let mut pulse = Pulse::new(home.work().join("pulse"));
    fs::write(home.work().join("looks.py"), LOOKS).unwrap();
    let (mut client, spawned) = home.keeper_as(&spec);
    assert!(spawned.isolation.mount_namespace, "{:?}", spawned.isolation);
    client.request(Call::Start(home.bash(1, "exec python3 looks.py"))).unwrap();
    pulse.wait_for(1);

    for file in &files {
        file.replace(&Secret::new(OLD), &Secret::new(NEW)).unwrap();
    }
    fs::write(home.work().join("over"), "").unwrap();

    let status = exited(&mut client, 1);
    assert_eq!((status.end.exit, home.output(1).as_str()), (Some(Exit::Code(0)), "[]\n"));
    for path in &paths {
        assert_eq!(fs::read_to_string(path).unwrap().trim(), NEW);
    }
}

//! The main job: a person asks, the model reads and changes, and says what it did.

use expect_test::expect;
use serde_json::json;

use crate::harness::{Harness, Script};

#[tokio::test(start_paused = true)]
async fn a_file_is_read_and_edited_and_the_model_says_so() {
    let script = Script::new()
        .calls("file_read", json!({ "path": "calc.sh" }))
        .calls("file_edit", json!({ "path": "calc.sh", "old_string": "a - b", "new_string": "a + b" }))
        .says("Fixed.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write("calc.sh", "echo $((a - b))\n");

    assert_eq!(lakitu.prompt("fix calc.sh").await, Ok("Fixed.".to_owned()));

    assert_eq!(lakitu.home.read("calc.sh"), "echo $((a + b))\n");
    expect![[r#"
        user: fix calc.sh
        call 1: file_read {"path":"calc.sh"}
        result 1:      1	echo $((a - b))
        call 2: file_edit {"new_string":"a + b","old_string":"a - b","path":"calc.sh"}
        result 2: Changed calc.sh (+1 -1 lines)
          @@ -1 +1 @@
          -echo $((a - b))
          +echo $((a + b))
    "#]].assert_eq(&lakitu.gateway.request(3));
    expect![[r#"
        user: fix calc.sh
        call 1: file_read {"path":"calc.sh"}
        result 1:      1	echo $((a - b))
        call 2: file_edit {"new_string":"a + b","old_string":"a - b","path":"calc.sh","replace_all":false}
        result 2: Changed calc.sh (+1 -1 lines)
          @@ -1 +1 @@
          -echo $((a - b))
          +echo $((a + b))
        model: Fixed.
        (thread.completed)
    "#]].assert_eq(&lakitu.transcript().await);
    lakitu.end().await;
}

//! Arguments of the tools, as models write them.

use super::*;

#[test]
fn what_other_agents_call_arguments_is_taken_and_what_nobody_knows_is_refused() {
    let of = |tool: &ToolSpec, arguments: serde_json::Value| match tool.check(&arguments.to_string()) {
        Ok(arguments) => arguments.to_string(),
        Err(error) => error.to_string(),
    };
    let told = [
        of(&FILE_READ, json!({ "filePath": "a", "line": "3", "limit": 2.0 })),
        of(&FILE_READ, json!({ "path": "a", "pages": "1-2" })),
        of(&FILE_READ, json!({ "path": "a", "limit": 0 })),
        of(&FILE_WRITE, json!({ "file_path": "a", "file_text": "x" })),
        of(&FILE_EDIT, json!({ "filename": "a", "oldText": "x", "after": "y", "replaceAll": "true" })),
        of(&GLOB, json!({ "include": "*.rs", "dir_path": "src" })),
        of(&GREP, json!({ "regex": "x", "file_path": "src", "include": "*.rs", "outputMode": "count", "-i": "true" })),
        of(&GREP, json!({ "pattern": "x", "-n": true, "-A": "2", "head_limit": "5", "output_mode": "content" })),
        of(&GREP, json!({ "pattern": "x", "-A": 1, "-B": 2 })),
        of(&GREP, json!({ "pattern": "x", "multiline": true })),
        of(&LS, json!({ "directory": ".", "all": "true" })),
        of(&LS, json!({ "depth": 2 })),
        of(&MULTI_EDIT, json!({ "file_path": "a", "edits": [{ "before": "x", "after": "y", "replaceAll": "true" }] })),
        of(&MULTI_EDIT, json!({ "path": "a", "edits": [{ "old_string": "x" }] })),
        of(&APPLY_PATCH, json!({ "input": "*** Begin Patch\n*** Delete File: a\n*** End Patch" })),
        of(&APPLY_PATCH, json!({ "patch": "--- a\n+++ b" })),
        of(&APPLY_PATCH, json!({ "command": ["apply_patch"] })),
    ];
    expect![[r#"
        {"limit":2,"offset":3,"path":"a"}
        INVALID_ARGUMENTS: unknown argument "pages"; known are limit, offset, path
        INVALID_ARGUMENTS: limit is 0; give at least 1 line, or leave it out
        {"content":"x","path":"a"}
        {"new_string":"y","old_string":"x","path":"a","replace_all":true}
        {"path":"src","pattern":"*.rs"}
        {"glob":"*.rs","ignore_case":true,"output_mode":"count","path":"src","pattern":"x"}
        {"context":2,"ignore_case":false,"limit":5,"output_mode":"content","pattern":"x"}
        INVALID_ARGUMENTS: argument "context" is given twice
        INVALID_ARGUMENTS: unknown argument "multiline"; known are context, glob, ignore_case, limit, output_mode, path, pattern
        {"hidden":true,"path":"."}
        INVALID_ARGUMENTS: unknown argument "depth"; known are hidden, path
        {"edits":[{"new_string":"y","old_string":"x","replace_all":true}],"path":"a"}
        INVALID_ARGUMENTS: edits[0]: missing field `new_string`
        {"patch":"*** Begin Patch\n*** Delete File: a\n*** End Patch"}
        INVALID_ARGUMENTS: a patch begins with the line `*** Begin Patch` and ends with the line `*** End Patch`
        INVALID_ARGUMENTS: unknown argument "command"; known are patch"#]].assert_eq(&told.join("\n"));
}

//! stub
use lakitu_kernel::*;
use lakitu_kernel::event::*;
pub struct Summary { end: Option<EventBody>, thread: ThreadId, err: Option<ToolError>, text: String }
impl Summary {
    pub fn new(thread: ThreadId) -> Self { Self { end: None, thread, err: None, text: String::new() } }
    pub fn event(&mut self, e: &Event) { if let EventBody::Message{text,..} = &e.body { self.text = text.clone(); } self.end = Some(e.body.clone()); }
    pub fn failed(&mut self, e: &ToolError) { self.err = Some(e.clone()); }
    pub fn is_completed(&self) -> bool { matches!(self.end, Some(EventBody::ThreadCompleted{})) }
    pub fn exit_code(&self) -> u8 { if self.err.is_some() { return 1; } match &self.end { Some(EventBody::ThreadCompleted{}) => 0, Some(EventBody::ThreadCheckpointed{reason: CheckpointReason::Interrupted,..}) => 130, Some(EventBody::ThreadCheckpointed{reason: CheckpointReason::Gateway,..}) => 4, Some(EventBody::ThreadCheckpointed{..}) => 3, _ => 1 } }
}
pub enum Out { T }
impl From<super::args::Output> for Out { fn from(_: super::args::Output) -> Self { Out::T } }
pub struct Ui;
#[allow(clippy::all, clippy::print_stdout)]
impl Ui {
    pub fn new(_: Out, _: bool, _: bool) -> Self { Ui }
    pub fn event(&mut self, e: &Event) { println!("{}", serde_json::to_string(e).unwrap()); }
    pub fn live(&mut self, e: &LiveEvent) { println!("{}", serde_json::to_string(e).unwrap()); }
    pub fn tick(&mut self) {}
    pub fn note(&mut self, t: &str) { println!("{t}"); }
    pub fn finish(&mut self, s: &Summary) -> std::io::Result<()> { println!("{} {:?} {:?} {}", s.thread, s.end, s.err, s.text); Ok(()) }
}

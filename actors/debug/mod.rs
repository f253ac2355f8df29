//! stub
use lakitu_kernel::supervise::*;
pub trait LogLevel: Send + Sync {}
pub struct Fixed;
impl LogLevel for Fixed {}
#[derive(Clone)]
pub struct DebugArgs;
pub struct DebugMsg;
impl Message for DebugMsg { fn name(&self) -> &'static str { "x" } }
pub struct Debug;
impl DebugArgs { pub fn new(_: &std::path::Path, _: &lakitu_kernel::config::Debug, _: Nodes, _: crate::store::Store, _: std::sync::Arc<dyn LogLevel>) -> Self { Self } }
impl Service for Debug {
    type Msg = DebugMsg; type Args = DebugArgs; const KIND: &'static str = "debug";
    async fn start(_: DebugArgs, _: Me<DebugMsg>) -> Result<Self, StartError> { Ok(Debug) }
    async fn handle(&mut self, _: DebugMsg) -> Result<(), Crash> { Ok(()) }
}

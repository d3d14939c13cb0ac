//! rehearsal

/// Temporary.
pub struct Rehearsal;
impl Rehearsal { pub fn open(_p:&crate::project::Project,_d:Option<&std::path::Path>)->Result<Self,std::io::Error>{Ok(Self)} }
pub struct RehearsalBackend;
impl RehearsalBackend { pub fn new(_r:&Rehearsal)->Self{Self} }
#[async_trait::async_trait]
impl crate::engine::Backend for RehearsalBackend { async fn connect(&self,_n:&crate::project::Node)->Result<crate::host::Host,crate::host::HostError>{todo!()} fn download(&self)->&dyn crate::artifact::Download{todo!()} }

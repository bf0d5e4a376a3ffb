//! `chaperone serve`: agents and people, as a configuration file says.

use std::process::ExitCode;

use anyhow::Context as _;
use chaperone_engine::conformance::WriteBack;

use crate::compose::Basics;
use crate::config::{ConfigArgs, Started};
use crate::signals;
use crate::telemetry;
use crate::workers::Workers;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs it until a signal asks it to stop; then requests in hand finish, then the workers.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.read()?;
    telemetry::start_logs(&config.log.level, config.log.json)?;
    let metrics = telemetry::start_metrics()?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
    let basics = Basics::of_this_machine();
    runtime.block_on(async {
        let Started {
            engine,
            gate,
            escrow,
        } = config.start(&basics).await?;
        // Before anything that can fail: it is shown only now.
        if let Some(escrow) = escrow {
            crate::keys::tell_escrow(&config.tenant, &escrow);
        }
        config.warn_of_refused(&gate);
        let sinks = match &config.audit_stream {
            Some(stream) => stream.sinks(&gate, &basics)?,
            None => Vec::new(),
        };
        if let Some(code) = engine.bootstrap_code().await? {
            eprintln!(
                "No account exists. Open {}/console/setup within 24 hours with this code: {}",
                config.public_url.trim_end_matches('/'),
                code.expose()
            );
        }
        if let WriteBack::Off(why) = engine.write_back().await? {
            eprintln!("{}", why.say(&config.ehr.connection));
        }
        let mut workers = Workers::start(&engine).counting(&engine, gate);
        for (name, sink) in sinks {
            workers = workers.streaming(&engine, name, sink);
        }
        let app = crate::web::app(&engine, config.cookies(), metrics);
        let served =
            chaperone_web::serve::serve(config.listener(), app, signals::interrupted()).await;
        workers.stop().await;
        served.context("serving failed")?;
        Ok(ExitCode::SUCCESS)
    })
}

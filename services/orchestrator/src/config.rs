//! Settings of the orchestrator.

use std::{path::PathBuf, time::Duration};

use config::{ByteSize, Secret};

config::settings! {
    /// Settings of the orchestrator.
    pub struct Config {
        /// Port to listen on; 0: any free one.
        pub agent_port: u16 = "7100", unit "port";
        /// The agent of a call that names none, and of the cycles run by `agent_interval`.
        pub agent_id: String = "agent", unit "name, 1 to 128 bytes";
        /// Time between two cycles that the orchestrator starts by itself, on the agent clock; 0: only on `RunCycle`.
        pub agent_interval: Duration = "0s", unit "duration", range "0s" to "7d";
        /// The tenant of the cycles run by `agent_interval`.
        pub agent_tenant: String = "default", unit "name";
        /// Bearer token for the calls of the cycles run by `agent_interval`; needed where the other services ask for one.
        pub agent_token: Option<Secret> = "", unit "token";
        /// Deadline of a cycle that brings none, wall time.
        pub agent_cycle_deadline: Duration = "30s", unit "duration", range "100ms" to "10m";
        /// Where pools come from: `defillama`, or `replay:PATH` of a CSV file.
        pub agent_source: String = "defillama", unit "source";
        /// Where gas prices come from: `none`, `rpc`, or `replay:PATH` of a CSV file.
        pub agent_gas_source: String = "none", unit "source";
        /// Address of DefiLlama's yields API, without `/pools`.
        pub agent_defillama_url: String = "https://yields.llama.fi", unit "url";
        /// Address of an Ethereum JSON-RPC node of `agent_chain`, for `agent_gas_source` = `rpc`. May hold a key.
        pub agent_gas_rpc_url: Option<Secret> = "", unit "url";
        /// The chain whose pools are kept of a live source; empty: every chain. A recording is taken as it is.
        pub agent_chain: String = "Base", unit "name";
        /// Days at the start of a recording that are only history.
        pub agent_history_days: usize = "7", unit "days", range "0" to "365";
        /// Pools a recorded day needs to be replayed.
        pub agent_min_pools: usize = "1", unit "pools", range "1" to "100000";
        /// How long a live source may stay the same before it counts as stale.
        pub agent_stale_after: Duration = "3h", unit "duration", range "1m" to "7d";
        /// Which pools are asked about in memory: CEL over `apr`, `historical_apr`, `tvl`, `pool_age_days`, `apr_base`, `apr_reward`, `volume_24h`, `chain`, `protocol`, `symbol`.
        pub agent_interest_rule: String = "apr > 3.0 * historical_apr || pool_age_days < 1.0 || (apr >= 20.0 && tvl >= 100000.0)", unit "CEL";
        /// Most interesting pools of a cycle; those of the largest yearly yield in USD are kept. Each is worth two recalls at
        /// once: above 99 the memory service needs a longer `max_queued_calls`.
        pub agent_max_interesting: usize = "20", unit "pools", range "1" to "400";
        /// Most pools of a cycle; the largest by TVL are kept.
        pub agent_max_pools: usize = "500", unit "pools", range "1" to "999";
        /// Most agents of all tenants kept in memory; the longest idle one makes room for another.
        pub agent_max_agents: usize = "100", unit "agents", range "1" to "10000";
        /// How far a pool's figures may lie from those of an earlier answer for it to serve, as a share of the smaller figure; what memory says of
        /// the pool and its age are not compared then. 0: the gateway is not asked for it, and does as its own `llm_band_tolerance` says.
        pub agent_band_tolerance: f64 = "0", unit "ratio", range "0" to "1";
        /// Cycles kept of each tenant.
        pub agent_cycles_kept: u64 = "1000", unit "cycles", range "1" to "100000";
        /// Folder of the journal of cycles; made if missing.
        pub agent_dir: PathBuf = "athena-data/agent", unit "folder";
        /// Memory that the journal's page cache may take.
        pub agent_journal_cache: ByteSize = "4MiB", unit "bytes", range "1MiB" to "64GiB";
        /// Address of the llm-gateway, or several with commas between; a name may stand for several, too.
        pub agent_llm_url: String = "http://127.0.0.1:7101", unit "url";
        /// Address of the memory-service.
        pub agent_memory_url: String = "http://127.0.0.1:7102", unit "url";
        /// Address of the storage-batcher.
        pub agent_storage_url: String = "http://127.0.0.1:7103", unit "url";
        /// Address of the monitor.
        pub agent_monitor_url: String = "http://127.0.0.1:7104", unit "url";
    }
    groups {
        /// Where and how it listens.
        pub host: rpc::HostSettings;
        /// How it calls the others.
        pub peer: rpc::PeerSettings;
        /// How the journal of cycles is written.
        pub journal: journal::Settings;
    }
}

impl Config {
    /// Returns how the journal of cycles is opened.
    pub(crate) fn journal(&self) -> journal::Options {
        self.journal.options(self.agent_journal_cache)
    }
}

/** The API's shapes. Money is a decimal string of smallest parts, times are Unix seconds, hashes and ids 0x-hex. */

export type Hex = `0x${string}`;

export const STATUSES = [
  "seen",
  "orphaned",
  "confirmed",
  "ready",
  "computing",
  "computed",
  "failed",
  "posting",
  "fulfilled",
  "rejected",
  "expired",
  "refunded",
  "cancelled",
] as const;
export type RequestStatus = (typeof STATUSES)[number];

/** Statuses after which nothing more happens. */
export const TERMINAL: ReadonlySet<RequestStatus> = new Set(["fulfilled", "rejected", "refunded", "cancelled"]);

export interface Config {
  name: string;
  version: string;
  chain_id: number;
  chain_name: string;
  currency: { symbol: string; decimals: number };
  coordinator: Hex;
  start_block: number;
  default_model: number | null;
  rpc_url: string | null;
  explorer_url: string | null;
  cancel_window: number;
  confirmations: number;
  backend: string;
  gateway: { open: boolean; address: Hex | null };
  /** Further places that have content; none where the API does not say. */
  gateways?: string[];
  limits: { image_bytes: number; image_pixels: number; formats: string[] };
}

export interface Health {
  ok: boolean;
  database: { ok: boolean; scanned: number | null; age_s: number | null };
  chain: { ok: boolean; head: number | null };
  content: { ok: boolean };
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

export interface Model {
  id: number;
  name: string;
  task: string;
  engine: string;
  description: string;
  price: string;
  token: Hex | null;
  token_symbol: string;
  /** Decimals of the token; 18 where the API does not say. */
  token_decimals?: number | null;
  active: boolean;
  payout: Hex;
  share_bps: number;
  manifest_cid: string;
  weights_cid: string | null;
  weights_sha256: string;
  weights_bytes: number | null;
  classes: number;
  licence: string;
  familiarity: boolean;
  comparison: string;
  usual_seconds: number | null;
  answered: number;
  example: boolean;
  problem: string;
}

export interface ModelDetail extends Model {
  manifest: Record<string, unknown>;
}

export interface Provider {
  id: string;
  name: string;
  price: { start: string; second: string; cpu_second: string };
  picture_glm: string | null;
  threads: number | null;
  images_per_second: number | null;
  load_seconds: number | null;
  good: number;
  failed: number;
  lied: number;
  reputation: number;
  reasons: string[];
  standing: string;
  blocked_until: number | null;
  first_seen: number | null;
  last_seen: number | null;
}

export interface Uploaded {
  cid: string;
  bytes: number;
  format: string;
  width: number;
  height: number;
}

export interface Move {
  at: number;
  status: RequestStatus;
  detail: string;
}

export interface RequestView {
  id: Hex;
  status: RequestStatus;
  model: number;
  model_name: string;
  requester: Hex;
  image_cid: string;
  image: { format: string; width: number; height: number; bytes: number } | null;
  payment: string;
  token: Hex | null;
  callback_gas: number;
  deadline: number;
  created_at: number;
  block: number;
  transaction: Hex;
  provider: string;
  provider_name: string;
  result_cid: string | null;
  answer: Hex | null;
  top: { label: string; confidence: number } | null;
  failure: { reason: string; text: string } | null;
  detail: string;
  report_transaction: Hex | null;
  nonce: number;
  refundable_at: number;
  timeline: Move[];
}

export interface RequestQuery {
  account?: string;
  model?: number;
  status?: RequestStatus;
  cursor?: string;
  limit?: number;
}

export interface StatsPoint {
  id: Hex;
  model: number;
  provider: string;
  bytes: number;
  pixels: number;
  compute_s: number | null;
  total_s: number | null;
  at: number;
}

export interface Stats {
  requests: Partial<Record<RequestStatus, number>>;
  success_rate: number | null;
  queue: number;
  throughput_per_hour: { at: number; count: number }[];
  by_model: {
    model: number;
    name: string;
    count: number;
    median_s: number;
    p90_s: number;
    /** Smallest, lower quartile, median, upper quartile, largest. */
    box: [number, number, number, number, number];
  }[];
  points: StatsPoint[];
}

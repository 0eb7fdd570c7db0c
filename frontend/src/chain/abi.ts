/**
 * The parts of the coordinator's ABI that the page uses, as in oracle/chain/abi/InferenceCoordinator.json (a test holds
 * them against it), and what it uses of ERC-20 with ERC-2612.
 */

export const coordinatorAbi = [
  {
    type: "function",
    name: "quote",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "callbackGas", type: "uint256" },
    ],
    outputs: [{ name: "payment", type: "uint256" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "request",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "imageCid", type: "bytes" },
      { name: "callbackGas", type: "uint256" },
      { name: "deadline", type: "uint256" },
    ],
    outputs: [{ name: "requestId", type: "bytes32" }],
    stateMutability: "payable",
  },
  {
    type: "function",
    name: "requestWithToken",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "imageCid", type: "bytes" },
      { name: "callbackGas", type: "uint256" },
      { name: "deadline", type: "uint256" },
      { name: "maxPayment", type: "uint256" },
    ],
    outputs: [{ name: "requestId", type: "bytes32" }],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "requestWithPermit",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "imageCid", type: "bytes" },
      { name: "callbackGas", type: "uint256" },
      { name: "deadline", type: "uint256" },
      { name: "maxPayment", type: "uint256" },
      { name: "permit", type: "tuple", components: [{ name: "deadline", type: "uint256" }, { name: "v", type: "uint8" }, { name: "r", type: "bytes32" }, { name: "s", type: "bytes32" }] },
    ],
    outputs: [{ name: "requestId", type: "bytes32" }],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "requestFromBalance",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "imageCid", type: "bytes" },
      { name: "callbackGas", type: "uint256" },
      { name: "deadline", type: "uint256" },
      { name: "maxPayment", type: "uint256" },
    ],
    outputs: [{ name: "requestId", type: "bytes32" }],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "cancel",
    inputs: [
      { name: "terms", type: "tuple", components: [{ name: "nonce", type: "uint256" }, { name: "modelId", type: "uint256" }, { name: "imageCid", type: "bytes" }, { name: "payment", type: "uint256" }, { name: "callbackGas", type: "uint256" }, { name: "deadline", type: "uint256" }, { name: "createdAt", type: "uint256" }] },
    ],
    outputs: [],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "refund",
    inputs: [
      { name: "requestId", type: "bytes32" },
    ],
    outputs: [],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "retryCallback",
    inputs: [
      { name: "requester", type: "address" },
      { name: "terms", type: "tuple", components: [{ name: "nonce", type: "uint256" }, { name: "modelId", type: "uint256" }, { name: "imageCid", type: "bytes" }, { name: "payment", type: "uint256" }, { name: "callbackGas", type: "uint256" }, { name: "deadline", type: "uint256" }, { name: "createdAt", type: "uint256" }] },
      { name: "resultCid", type: "bytes" },
      { name: "answer", type: "bytes" },
    ],
    outputs: [],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "requestOf",
    inputs: [
      { name: "requestId", type: "bytes32" },
    ],
    outputs: [{ name: "known", type: "tuple", components: [{ name: "requester", type: "address" }, { name: "modelId", type: "uint256" }, { name: "payment", type: "uint256" }, { name: "callbackGas", type: "uint256" }, { name: "deadline", type: "uint256" }, { name: "status", type: "uint8" }, { name: "failure", type: "uint8" }] }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "requestIdOf",
    inputs: [
      { name: "requester", type: "address" },
      { name: "terms", type: "tuple", components: [{ name: "nonce", type: "uint256" }, { name: "modelId", type: "uint256" }, { name: "imageCid", type: "bytes" }, { name: "payment", type: "uint256" }, { name: "callbackGas", type: "uint256" }, { name: "deadline", type: "uint256" }, { name: "createdAt", type: "uint256" }] },
    ],
    outputs: [{ name: "", type: "bytes32" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "verifyResult",
    inputs: [
      { name: "requestId", type: "bytes32" },
      { name: "resultCid", type: "bytes" },
      { name: "answer", type: "bytes" },
    ],
    outputs: [{ name: "", type: "bool" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "modelCount",
    inputs: [
    ],
    outputs: [{ name: "", type: "uint256" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "modelOf",
    inputs: [
      { name: "modelId", type: "uint256" },
    ],
    outputs: [{ name: "", type: "tuple", components: [{ name: "publisher", type: "address" }, { name: "payout", type: "address" }, { name: "token", type: "address" }, { name: "active", type: "bool" }, { name: "price", type: "uint256" }, { name: "publisherShare", type: "uint256" }, { name: "manifestCid", type: "bytes" }] }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "earningsOf",
    inputs: [
      { name: "modelId", type: "uint256" },
    ],
    outputs: [{ name: "", type: "uint256" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "balanceOf",
    inputs: [
      { name: "token", type: "address" },
      { name: "account", type: "address" },
    ],
    outputs: [{ name: "", type: "uint256" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "publisherShare",
    inputs: [
    ],
    outputs: [{ name: "", type: "uint256" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "publishingFee",
    inputs: [
    ],
    outputs: [{ name: "", type: "uint256" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "cancelWindow",
    inputs: [
    ],
    outputs: [{ name: "", type: "uint256" }],
    stateMutability: "view",
  },
  {
    type: "function",
    name: "nextNonce",
    inputs: [
    ],
    outputs: [{ name: "", type: "uint256" }],
    stateMutability: "view",
  },
  { type: "function", name: "paused", inputs: [], outputs: [{ name: "", type: "bool" }], stateMutability: "view" },
  {
    type: "function",
    name: "publishModel",
    inputs: [
      { name: "manifestCid", type: "bytes" },
      { name: "price", type: "uint256" },
      { name: "token", type: "address" },
      { name: "payout", type: "address" },
    ],
    outputs: [{ name: "modelId", type: "uint256" }],
    stateMutability: "payable",
  },
  {
    type: "function",
    name: "setModelPrice",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "price", type: "uint256" },
    ],
    outputs: [],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "setModelActive",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "active", type: "bool" },
    ],
    outputs: [],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "withdrawEarnings",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "to", type: "address" },
    ],
    outputs: [{ name: "amount", type: "uint256" }],
    stateMutability: "nonpayable",
  },
  {
    type: "function",
    name: "withdraw",
    inputs: [
      { name: "token", type: "address" },
      { name: "to", type: "address" },
      { name: "amount", type: "uint256" },
    ],
    outputs: [],
    stateMutability: "nonpayable",
  },
  {
    type: "event",
    name: "ModelPublished",
    inputs: [
      { name: "modelId", type: "uint256", indexed: true },
      { name: "payout", type: "address", indexed: true },
      { name: "token", type: "address", indexed: true },
      { name: "price", type: "uint256" },
      { name: "manifestCid", type: "bytes" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "ModelRepriced",
    inputs: [
      { name: "modelId", type: "uint256", indexed: true },
      { name: "price", type: "uint256" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "ModelActivitySet",
    inputs: [
      { name: "modelId", type: "uint256", indexed: true },
      { name: "active", type: "bool" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "EarningsWithdrawn",
    inputs: [
      { name: "modelId", type: "uint256", indexed: true },
      { name: "to", type: "address", indexed: true },
      { name: "amount", type: "uint256" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "InferenceRequested",
    inputs: [
      { name: "requestId", type: "bytes32", indexed: true },
      { name: "modelId", type: "uint256", indexed: true },
      { name: "requester", type: "address", indexed: true },
      { name: "imageCid", type: "bytes" },
      { name: "payment", type: "uint256" },
      { name: "callbackGas", type: "uint256" },
      { name: "deadline", type: "uint256" },
      { name: "nonce", type: "uint256" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "InferenceFulfilled",
    inputs: [
      { name: "requestId", type: "bytes32", indexed: true },
      { name: "resultCid", type: "bytes" },
      { name: "answer", type: "bytes" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "InferenceFailed",
    inputs: [
      { name: "requestId", type: "bytes32", indexed: true },
      { name: "reason", type: "uint8" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "InferenceRefunded",
    inputs: [
      { name: "requestId", type: "bytes32", indexed: true },
      { name: "requester", type: "address", indexed: true },
      { name: "amount", type: "uint256" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "InferenceCancelled",
    inputs: [
      { name: "requestId", type: "bytes32", indexed: true },
      { name: "requester", type: "address", indexed: true },
      { name: "amount", type: "uint256" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "CallbackFailed",
    inputs: [
      { name: "requestId", type: "bytes32", indexed: true },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "CallbackRetried",
    inputs: [
      { name: "requestId", type: "bytes32", indexed: true },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "Credited",
    inputs: [
      { name: "token", type: "address", indexed: true },
      { name: "account", type: "address", indexed: true },
      { name: "amount", type: "uint256" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "Deposited",
    inputs: [
      { name: "token", type: "address", indexed: true },
      { name: "account", type: "address", indexed: true },
      { name: "amount", type: "uint256" },
    ],
    anonymous: false,
  },
  {
    type: "event",
    name: "Withdrawn",
    inputs: [
      { name: "token", type: "address", indexed: true },
      { name: "account", type: "address", indexed: true },
      { name: "to", type: "address", indexed: true },
      { name: "amount", type: "uint256" },
    ],
    anonymous: false,
  },
  { type: "error", name: "UnknownModel", inputs: [{ name: "modelId", type: "uint256" }] },
  { type: "error", name: "ModelInactive", inputs: [{ name: "modelId", type: "uint256" }] },
  {
    type: "error",
    name: "ModelPricedInToken",
    inputs: [
      { name: "modelId", type: "uint256" },
      { name: "token", type: "address" },
    ],
  },
  { type: "error", name: "ModelPricedInEther", inputs: [{ name: "modelId", type: "uint256" }] },
  {
    type: "error",
    name: "NotModelPublisher",
    inputs: [
      { name: "caller", type: "address" },
      { name: "publisher", type: "address" },
    ],
  },
  {
    type: "error",
    name: "NotModelPayout",
    inputs: [
      { name: "caller", type: "address" },
      { name: "payout", type: "address" },
    ],
  },
  { type: "error", name: "NothingEarned", inputs: [{ name: "modelId", type: "uint256" }] },
  { type: "error", name: "RegistryFull", inputs: [{ name: "maximum", type: "uint256" }] },
  { type: "error", name: "TokenUnsupported", inputs: [{ name: "token", type: "address" }] },
  {
    type: "error",
    name: "TokenTransferInexact",
    inputs: [
      { name: "token", type: "address" },
      { name: "received", type: "uint256" },
      { name: "expected", type: "uint256" },
    ],
  },
  { type: "error", name: "CallbackNotSold", inputs: [{ name: "token", type: "address" }] },
  { type: "error", name: "InvalidCid", inputs: [{ name: "cid", type: "bytes" }] },
  { type: "error", name: "PriceNotRepresentable", inputs: [{ name: "price", type: "uint256" }] },
  {
    type: "error",
    name: "PaymentTooLow",
    inputs: [
      { name: "paid", type: "uint256" },
      { name: "required", type: "uint256" },
    ],
  },
  {
    type: "error",
    name: "PaymentAboveMaximum",
    inputs: [
      { name: "payment", type: "uint256" },
      { name: "maximum", type: "uint256" },
    ],
  },
  {
    type: "error",
    name: "DeadlineOutOfRange",
    inputs: [
      { name: "deadline", type: "uint256" },
      { name: "earliest", type: "uint256" },
      { name: "latest", type: "uint256" },
    ],
  },
  {
    type: "error",
    name: "CallbackGasTooHigh",
    inputs: [
      { name: "callbackGas", type: "uint256" },
      { name: "maximum", type: "uint256" },
    ],
  },
  {
    type: "error",
    name: "NotCancellable",
    inputs: [
      { name: "requestId", type: "bytes32" },
      { name: "status", type: "uint8" },
      { name: "end", type: "uint256" },
    ],
  },
  {
    type: "error",
    name: "NotRefundable",
    inputs: [
      { name: "requestId", type: "bytes32" },
      { name: "status", type: "uint8" },
      { name: "deadline", type: "uint256" },
    ],
  },
  {
    type: "error",
    name: "NotRetriable",
    inputs: [
      { name: "requestId", type: "bytes32" },
      { name: "status", type: "uint8" },
    ],
  },
  { type: "error", name: "ResultMismatch", inputs: [{ name: "requestId", type: "bytes32" }] },
  { type: "error", name: "CallbackReverted", inputs: [{ name: "requestId", type: "bytes32" }] },
  {
    type: "error",
    name: "InsufficientGas",
    inputs: [
      { name: "available", type: "uint256" },
      { name: "required", type: "uint256" },
    ],
  },
  {
    type: "error",
    name: "BalanceTooLow",
    inputs: [
      { name: "token", type: "address" },
      { name: "account", type: "address" },
      { name: "balance", type: "uint256" },
      { name: "required", type: "uint256" },
    ],
  },
  {
    type: "error",
    name: "TransferFailed",
    inputs: [
      { name: "to", type: "address" },
      { name: "amount", type: "uint256" },
    ],
  },
  { type: "error", name: "ZeroAddress", inputs: [] },
  { type: "error", name: "EnforcedPause", inputs: [] },
  { type: "error", name: "ReentrancyGuardReentrantCall", inputs: [] },
  { type: "error", name: "SafeERC20FailedOperation", inputs: [{ name: "token", type: "address" }] },
] as const;

/** `Status` of a request on the chain, by its number. */
export const CHAIN_STATUSES = [
  "Unknown",
  "Pending",
  "Fulfilled",
  "CallbackFailed",
  "Failed",
  "Refunded",
  "Cancelled",
] as const;
export type ChainStatus = (typeof CHAIN_STATUSES)[number];

/** `FailureReason` by its number, in the API's words. */
export const FAILURE_REASONS = [
  "none",
  "image_unavailable",
  "image_too_large",
  "image_unreadable",
  "image_unsupported",
  "model_unavailable",
  "compute_failed",
] as const;
export type FailureReason = (typeof FAILURE_REASONS)[number];

/** `approve` without what it returns: some tokens return nothing, and whether it went through the chain says. */
export const erc20Abi = [
  { type: "function", name: "name", inputs: [], outputs: [{ name: "", type: "string" }], stateMutability: "view" },
  { type: "function", name: "symbol", inputs: [], outputs: [{ name: "", type: "string" }], stateMutability: "view" },
  { type: "function", name: "decimals", inputs: [], outputs: [{ name: "", type: "uint8" }], stateMutability: "view" },
  { type: "function", name: "version", inputs: [], outputs: [{ name: "", type: "string" }], stateMutability: "view" },
  { type: "function", name: "balanceOf", inputs: [{ name: "account", type: "address" }], outputs: [{ name: "", type: "uint256" }], stateMutability: "view" },
  { type: "function", name: "allowance", inputs: [{ name: "owner", type: "address" }, { name: "spender", type: "address" }], outputs: [{ name: "", type: "uint256" }], stateMutability: "view" },
  { type: "function", name: "approve", inputs: [{ name: "spender", type: "address" }, { name: "amount", type: "uint256" }], outputs: [], stateMutability: "nonpayable" },
  { type: "function", name: "nonces", inputs: [{ name: "owner", type: "address" }], outputs: [{ name: "", type: "uint256" }], stateMutability: "view" },
  { type: "function", name: "DOMAIN_SEPARATOR", inputs: [], outputs: [{ name: "", type: "bytes32" }], stateMutability: "view" },
] as const;

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @title IInferenceCoordinator
/// @notice Records paid requests for a prediction about a picture, holds their money, and carries the answers back.
/// @dev A token is an ERC-20 by its address, or ether by the zero address. Money is in the smallest part of its token;
/// a price or a payment is a whole number of units, and a unit is one gwei of ether, 10^-9 of a token with more than
/// nine decimals, or the smallest part of one with fewer. Deadlines are Unix seconds; shares are basis points; CIDs are
/// raw bytes, either version 0 (0x12 0x20 and a 32-byte sha2-256 digest, 34 bytes) or version 1 (0x01, codec 0x55 raw
/// or 0x70 dag-pb, 0x12 0x20 and the digest, 36 bytes).
interface IInferenceCoordinator {
    /// @notice Where a request stands.
    /// @dev `Unknown`: never made. `Pending`: paid, held in escrow. `Fulfilled`: answered; its callback, if one was
    /// asked for, went through. `CallbackFailed`: answered and paid for, but the callback reverted; anyone may retry
    /// it. `Failed`: an operator gave a reason and the money went back. `Refunded`: the deadline passed unanswered
    /// and the money went back. `Cancelled`: the requester took it back in time. Only `Pending` and `CallbackFailed`
    /// are ever left again.
    enum Status {
        Unknown,
        Pending,
        Fulfilled,
        CallbackFailed,
        Failed,
        Refunded,
        Cancelled
    }

    /// @notice Why a request could not be answered. The money goes back in the same transaction.
    /// @dev `None` means "answered". `ImageUnavailable`: no node delivered the picture in time. `ImageTooLarge`: too
    /// many bytes or pixels. `ImageUnreadable`: not a whole, readable picture. `ImageUnsupported`: a format that is
    /// not accepted. `ModelUnavailable`: nobody here can run this model. `ComputeFailed`: every attempt failed.
    enum FailureReason {
        None,
        ImageUnavailable,
        ImageTooLarge,
        ImageUnreadable,
        ImageUnsupported,
        ModelUnavailable,
        ComputeFailed
    }

    /// @notice A published model.
    /// @param publisher Account that may reprice and retire it.
    /// @param payout Account that may take what it earned.
    /// @param token Token that it is priced in.
    /// @param active Whether new requests are accepted.
    /// @param price Price of one prediction without a callback.
    /// @param publisherShare Share of every payment that is the publisher's, in basis points; the operator gets the
    /// rest.
    /// @param manifestCid CID of the manifest that describes the model.
    struct Model {
        address publisher;
        address payout;
        address token;
        bool active;
        uint256 price;
        uint256 publisherShare;
        bytes manifestCid;
    }

    /// @notice Everything that a request id commits to, besides chain, coordinator and requester.
    /// @param nonce Number of the request at this coordinator, as in `InferenceRequested`.
    /// @param modelId Model that was asked.
    /// @param imageCid CID of the picture.
    /// @param payment What was paid, without the excess.
    /// @param callbackGas Gas of the callback, rounded up.
    /// @param deadline Last second, Unix time, for the answer.
    /// @param createdAt Unix time of the block that holds the request.
    struct RequestTerms {
        uint256 nonce;
        uint256 modelId;
        bytes imageCid;
        uint256 payment;
        uint256 callbackGas;
        uint256 deadline;
        uint256 createdAt;
    }

    /// @notice A signature over an ERC-2612 permit that lets the coordinator take tokens.
    /// @param deadline Last second in which the permit may be used.
    /// @param v Recovery id.
    /// @param r First half.
    /// @param s Second half.
    struct Permit {
        uint256 deadline;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    /// @notice A signature in the compact form of ERC-2098.
    /// @param r First half.
    /// @param vs Second half, with the parity in the highest bit.
    struct Signature {
        bytes32 r;
        bytes32 vs;
    }

    /// @notice What the chain still knows of a request.
    /// @dev While `Pending`, and after `Refunded` or `Cancelled`, every field is set except `failure`. After `Failed`
    /// the callback gas is no longer known (zero) and `failure` is set. After `Fulfilled` or `CallbackFailed` only
    /// `modelId`, `callbackGas` and `status` are known: the rest of the slot holds the commitment that `verifyResult`
    /// checks.
    /// @param requester Account that asked.
    /// @param modelId Model that was asked.
    /// @param payment What is held, or was given back, in the model's token.
    /// @param callbackGas Gas the callback gets, a multiple of 10,000; zero for no callback.
    /// @param deadline Last second, Unix time, in which the request may be answered.
    /// @param status Where it stands.
    /// @param failure Reason given by the operator when `status` is `Failed`, else `None`.
    struct Request {
        address requester;
        uint256 modelId;
        uint256 payment;
        uint256 callbackGas;
        uint256 deadline;
        Status status;
        FailureReason failure;
    }

    /// @notice One item of a report.
    /// @param requestId Request that is settled.
    /// @param failure `None` for an answer, else the reason; a reason makes the two other fields irrelevant.
    /// @param resultCid CID of the full result.
    /// @param answer Compact answer that a contract can decode, at most 1,024 bytes; see `ClassificationAnswer`.
    struct Fulfilment {
        bytes32 requestId;
        FailureReason failure;
        bytes resultCid;
        bytes answer;
    }

    /// @notice A model was published.
    event ModelPublished(
        uint256 indexed modelId, address indexed payout, address indexed token, uint256 price, bytes manifestCid
    );
    /// @notice A model has a new price, in its token, for requests made from now on.
    event ModelRepriced(uint256 indexed modelId, uint256 price);
    /// @notice A model accepts new requests again (`active`) or no longer does.
    event ModelActivitySet(uint256 indexed modelId, bool active);
    /// @notice What a model had earned was paid out, in its token.
    event EarningsWithdrawn(uint256 indexed modelId, address indexed to, uint256 amount);

    /// @notice A request was paid for and waits for its answer.
    /// @dev Everything that the request id commits to is here or in the block's header: see `RequestTerms`.
    /// `callbackGas` is the value after rounding up to a multiple of 10,000; `payment` is what is held, without the
    /// excess that went back.
    event InferenceRequested(
        bytes32 indexed requestId,
        uint256 indexed modelId,
        address indexed requester,
        bytes imageCid,
        uint256 payment,
        uint256 callbackGas,
        uint256 deadline,
        uint256 nonce
    );
    /// @notice A request was answered, and publisher and operator were credited.
    event InferenceFulfilled(bytes32 indexed requestId, bytes resultCid, bytes answer);
    /// @notice An operator declared that a request cannot be answered; `InferenceRefunded` follows.
    event InferenceFailed(bytes32 indexed requestId, FailureReason reason);
    /// @notice The whole payment of a request, in the model's token, went back to its requester, directly or to their
    /// balance.
    event InferenceRefunded(bytes32 indexed requestId, address indexed requester, uint256 amount);
    /// @notice The requester took a request back, and its whole payment, in the model's token, went back to them.
    event InferenceCancelled(bytes32 indexed requestId, address indexed requester, uint256 amount);
    /// @notice The requester's callback reverted or ran out of its gas; the answer stands and can be retried.
    event CallbackFailed(bytes32 indexed requestId);
    /// @notice A callback that had failed was delivered by `retryCallback`.
    event CallbackRetried(bytes32 indexed requestId);
    /// @notice An item of a report changed nothing.
    /// @dev `status` is where the request stood. `Pending` means that the item itself was at fault: an answer after the
    /// deadline, a result CID that is not well formed, or an answer of more than 1,024 bytes.
    event FulfilmentSkipped(bytes32 indexed requestId, Status status);
    /// @notice An account put money into its balance.
    event Deposited(address indexed token, address indexed account, uint256 amount);
    /// @notice Money went back to an account's balance: of a request that was paid from it or in tokens, or ether that
    /// the account did not take directly.
    event Credited(address indexed token, address indexed account, uint256 amount);
    /// @notice An account took money out of its balance.
    event Withdrawn(address indexed token, address indexed account, address indexed to, uint256 amount);
    /// @notice A set of operators was proposed; it can be put in force from `effectiveAt`, Unix time, on.
    event OperatorsProposed(address[] operators, uint256 quorum, uint256 effectiveAt);
    /// @notice The proposed set was withdrawn.
    event OperatorsProposalWithdrawn();
    /// @notice A set of operators is in force, and `quorum` of them must sign a report.
    event OperatorsSet(address[] operators, uint256 quorum);
    /// @notice An operator may no longer report or sign; the quorum stays.
    event OperatorRemoved(address indexed operator);
    /// @notice Price of 10,000 gas of a callback, in units of the token, for requests made from now on.
    event CallbackPriceSet(address indexed token, uint256 price);
    /// @notice Publishers' share of models published from now on, in basis points.
    event PublisherShareSet(uint256 basisPoints);
    /// @notice Wei that publishing a model costs from now on.
    event PublishingFeeSet(uint256 fee);

    /// @notice No model has this id.
    error UnknownModel(uint256 modelId);
    /// @notice The model's publisher has retired it.
    error ModelInactive(uint256 modelId);
    /// @notice The model is priced in a token; ask with `requestWithToken`, `requestWithPermit` or from a balance.
    error ModelPricedInToken(uint256 modelId, address token);
    /// @notice The model is priced in ether; ask with `request` or from a balance.
    error ModelPricedInEther(uint256 modelId);
    /// @notice Only the account that published the model may change it.
    error NotModelPublisher(address caller, address publisher);
    /// @notice Only the model's payout account may take what it earned.
    error NotModelPayout(address caller, address payout);
    /// @notice The model has earned nothing since the last time.
    error NothingEarned(uint256 modelId);
    /// @notice The registry holds as many models as it can number.
    error RegistryFull(uint256 maximum);
    /// @notice The token has no code, does not state its decimals, or has more than 18.
    error TokenUnsupported(address token);
    /// @notice The token moved another amount than it was told to; a token that takes a fee cannot be used here.
    error TokenTransferInexact(address token, uint256 received, uint256 expected);
    /// @notice No callback is sold for this token, since the owner has not set its price.
    error CallbackNotSold(address token);
    /// @notice The bytes are not a CID of an accepted form.
    error InvalidCid(bytes cid);
    /// @notice The price is not a whole number of units, or too high.
    error PriceNotRepresentable(uint256 price);
    /// @notice The share lies outside its bounds, in basis points.
    error ShareOutOfRange(uint256 basisPoints, uint256 minimum, uint256 maximum);
    /// @notice Less was sent than is asked, in wei.
    error PaymentTooLow(uint256 paid, uint256 required);
    /// @notice The request costs more than its requester agreed to.
    error PaymentAboveMaximum(uint256 payment, uint256 maximum);
    /// @notice No image was named.
    error NothingAsked();
    /// @notice The deadline, Unix seconds, is too soon or too far.
    error DeadlineOutOfRange(uint256 deadline, uint256 earliest, uint256 latest);
    /// @notice More callback gas was asked for than can be granted.
    error CallbackGasTooHigh(uint256 callbackGas, uint256 maximum);
    /// @notice The cancel window, in seconds, is longer than allowed.
    error CancelWindowTooLong(uint256 window, uint256 maximum);
    /// @notice The account is not an operator.
    error NotOperator(address account);
    /// @notice Another number of operators signed than must; an unsigned report counts as one.
    error QuorumNotMet(uint256 signed, uint256 required);
    /// @notice Signatures are to be in rising order of their signers, each once.
    error SignersNotRising(address previous, address signer);
    /// @notice Operators are to be in rising order, each once, and none is the zero address.
    error OperatorsNotRising(address previous, address operator);
    /// @notice A set has at most `maximum` operators, and a quorum of at least one and at most all of them.
    error OperatorSetOutOfRange(uint256 count, uint256 quorum, uint256 maximum);
    /// @notice This set was not proposed; the proposal has this hash, zero when there is none.
    error NoSuchProposal(bytes32 proposalHash);
    /// @notice The proposal cannot be put in force yet.
    error ProposalTooEarly(uint256 effectiveAt);
    /// @notice The caller made no pending request on these terms, or its cancel window has ended.
    error NotCancellable(bytes32 requestId, Status status, uint256 end);
    /// @notice The request is not pending, or its deadline has not passed.
    error NotRefundable(bytes32 requestId, Status status, uint256 deadline);
    /// @notice The request has no failed callback.
    error NotRetriable(bytes32 requestId, Status status);
    /// @notice Result CID and answer are not those the request was fulfilled with.
    error ResultMismatch(bytes32 requestId);
    /// @notice The retried callback failed again.
    error CallbackReverted(bytes32 requestId);
    /// @notice Too little gas is left to give a callback what its requester paid for.
    error InsufficientGas(uint256 available, uint256 required);
    /// @notice The account's balance is lower than what is to be taken from it.
    error BalanceTooLow(address token, address account, uint256 balance, uint256 required);
    /// @notice The receiver did not take the ether.
    error TransferFailed(address to, uint256 amount);
    /// @notice The zero address is no payee.
    error ZeroAddress();
    /// @notice The items of a signed report are not encoded as `abi.encode` does, inside the signed bytes.
    error ItemsMalformed(uint256 length);
    /// @notice A deposit is below 2^128, so that no balance can overflow and stop a report.
    error DepositTooLarge(uint256 amount, uint256 maximum);
    /// @notice There is always an owner: somebody must be able to remove an operator.
    error OwnershipNotRenounceable();
    /// @notice A report has at least one item.
    error EmptyReport();

    /// @notice Publishes a model and becomes its publisher, the only account that may reprice or retire it.
    /// @dev Anyone may call, for `publishingFee`; the owner for nothing. The fee keeps the numbers of models, of which
    /// there are 4,095, from being used up; it goes to the owner's balance, and what was sent above it comes back. The
    /// publisher's share stays for ever what `publisherShare` is now. Reverts with `InvalidCid`,
    /// `PriceNotRepresentable`, `PaymentTooLow`, `TokenUnsupported`, `ZeroAddress` or `RegistryFull`.
    /// @param manifestCid CID of the model's manifest.
    /// @param price Price of one prediction, a whole number of units of at most 10^12; zero is free.
    /// @param token Token that it is priced in, the zero address for ether. It cannot be changed.
    /// @param payout Account that may take the publisher's share. It cannot be changed.
    /// @return modelId Id of the model: 1 for the first, at most 4,095.
    function publishModel(bytes calldata manifestCid, uint256 price, address token, address payout)
        external
        payable
        returns (uint256 modelId);

    /// @notice Changes the price of a model. Requests already made keep theirs.
    /// @dev Only its publisher. Reverts with `UnknownModel`, `NotModelPublisher` or `PriceNotRepresentable`.
    /// @param modelId Model to reprice.
    /// @param price New price in its token, a whole number of units of at most 10^12.
    function setModelPrice(uint256 modelId, uint256 price) external;

    /// @notice Retires a model or takes it up again. Requests already made are still answered.
    /// @dev Only its publisher. Reverts with `UnknownModel` or `NotModelPublisher`.
    /// @param modelId Model to change.
    /// @param active Whether new requests are accepted.
    function setModelActive(uint256 modelId, bool active) external;

    /// @notice Pays out all that a model has earned for its publisher.
    /// @dev Only its payout account. Not blocked by a pause. Reverts with `UnknownModel`, `NotModelPayout`,
    /// `NothingEarned`, `ZeroAddress` or `TransferFailed`, or with what the token says.
    /// @param modelId Model that earned.
    /// @param to Account that receives the money.
    /// @return amount What was paid out, in the model's token.
    function withdrawEarnings(uint256 modelId, address to) external returns (uint256 amount);

    /// @notice What asking costs now: the model's price and the callback's gas at `callbackPriceOf` the model's token.
    /// @dev Reverts with `UnknownModel`, `ModelInactive`, `CallbackGasTooHigh` or `CallbackNotSold`.
    /// @param modelId Model to ask.
    /// @param callbackGas Gas the callback needs; rounded up to a multiple of 10,000.
    /// @return payment What to pay, in the model's token.
    function quote(uint256 modelId, uint256 callbackGas) external view returns (uint256 payment);

    /// @notice Asks a model about a picture and pays in ether. Send at least `quote`; the excess comes back in the same
    /// transaction, so that what is sent is the most that is paid.
    /// @dev Anyone may call, unless paused. The id is the keccak256 of the ABI encoding of chain id, coordinator,
    /// requester and `RequestTerms`, member by member in their order; `requestIdOf` computes it. A callback to a
    /// requester without code does nothing. The excess is sent with 50,000 gas, and added to the
    /// caller's balance when they do not take it. Reverts with `EnforcedPause`, `UnknownModel`, `ModelInactive`,
    /// `ModelPricedInToken`, `InvalidCid`, `CallbackGasTooHigh`, `DeadlineOutOfRange` or `PaymentTooLow`.
    /// @param modelId Model to ask.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Gas for `IInferenceConsumer.fulfillInference`, rounded up to a multiple of 10,000, at most
    /// 2,550,000; zero for no callback.
    /// @param deadline Last second, Unix time, for the answer: 30 seconds to 7 days from now.
    /// @return requestId Id of the request.
    function request(uint256 modelId, bytes calldata imageCid, uint256 callbackGas, uint256 deadline)
        external
        payable
        returns (bytes32 requestId);

    /// @notice Asks one model about several pictures, one request each, and pays in ether: `quote` for each.
    /// @dev As `request`; reverts also with `NothingAsked`. All are made or none.
    /// @param modelId Model to ask.
    /// @param imageCids CIDs of the pictures.
    /// @param callbackGas Callback gas of each request.
    /// @param deadline Deadline of each request.
    /// @return requestIds Ids of the requests, in the order of the pictures.
    function requestMany(uint256 modelId, bytes[] calldata imageCids, uint256 callbackGas, uint256 deadline)
        external
        payable
        returns (bytes32[] memory requestIds);

    /// @notice Asks and pays from the caller's balance in the model's token, where the money also goes when it goes
    /// back.
    /// @dev As `request`; reverts also with `PaymentAboveMaximum` or `BalanceTooLow`.
    /// @param modelId Model to ask.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Callback gas.
    /// @param deadline Deadline.
    /// @param maxPayment Most that the caller pays; a price may have changed since `quote`.
    /// @return requestId Id of the request.
    function requestFromBalance(
        uint256 modelId,
        bytes calldata imageCid,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment
    ) external returns (bytes32 requestId);

    /// @notice Asks one model about several pictures and pays from the caller's balance.
    /// @dev As `requestMany` and `requestFromBalance`.
    /// @param modelId Model to ask.
    /// @param imageCids CIDs of the pictures.
    /// @param callbackGas Callback gas of each request.
    /// @param deadline Deadline of each request.
    /// @param maxPayment Most that the caller pays for all of them.
    /// @return requestIds Ids of the requests, in the order of the pictures.
    function requestManyFromBalance(
        uint256 modelId,
        bytes[] calldata imageCids,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment
    ) external returns (bytes32[] memory requestIds);

    /// @notice Asks a model that is priced in an ERC-20 and pays by the allowance that the caller gave the coordinator.
    /// @dev As `requestFromBalance`; money that goes back goes to the caller's balance. Reverts also with
    /// `ModelPricedInEther` or `TokenTransferInexact`, or with what the token says.
    /// @param modelId Model to ask.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Callback gas.
    /// @param deadline Deadline.
    /// @param maxPayment Most that the caller pays.
    /// @return requestId Id of the request.
    function requestWithToken(
        uint256 modelId,
        bytes calldata imageCid,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment
    ) external returns (bytes32 requestId);

    /// @notice `requestWithToken` with an ERC-2612 permit over `maxPayment` instead of an allowance given before.
    /// @dev A permit that was used already does no harm as long as its allowance is there.
    /// @param modelId Model to ask.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Callback gas.
    /// @param deadline Deadline of the request.
    /// @param maxPayment Most that the caller pays, and the value of the permit.
    /// @param permit The caller's permit for the coordinator.
    /// @return requestId Id of the request.
    function requestWithPermit(
        uint256 modelId,
        bytes calldata imageCid,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment,
        Permit calldata permit
    ) external returns (bytes32 requestId);

    /// @notice Takes a request back; the whole payment goes back as with a refund.
    /// @dev Only the requester, and only while the chain's time is below `terms.createdAt + cancelWindow`. That is the
    /// whole rule: operators do not begin to spend on a request before that moment, so a cancelled one has cost them
    /// nothing. The creation time is not stored; the id commits to it, which is why the terms are asked for. Not
    /// blocked by a pause. Reverts with `NotCancellable`.
    /// @param terms Terms of the request, as in `InferenceRequested` and its block.
    function cancel(RequestTerms calldata terms) external;

    /// @notice Sends the payment of an unanswered request back once its deadline has passed.
    /// @dev Anyone may call. What was paid by value goes to the requester with 50,000 gas, or to their balance when
    /// they do not take it; what was paid from a balance or in tokens goes to their balance. Not blocked by a pause.
    /// Reverts with `NotRefundable`.
    /// @param requestId Request to refund.
    function refund(bytes32 requestId) external;

    /// @notice Settles many requests in one transaction, by one operator alone, where the quorum is one.
    /// @dev Each item stands alone. An item is skipped with `FulfilmentSkipped`, and its neighbours go on, when its
    /// request is not `Pending`, when it is an answer and the deadline has passed (from that second on the money is the
    /// requester's, and no race decides it), when its result CID is not well formed or when its answer has more than
    /// 1,024 bytes. A failure is accepted after the deadline as well, since it does what `refund` does and gives the
    /// reason besides.
    /// First every item is settled and every credit written: the publisher's share to the model's earnings, the rest to
    /// the operator's balance. Then callbacks and refunds leave in the order of the items. A callback gets exactly the
    /// gas its requester paid for, and nothing it returns is copied; when it fails the request becomes `CallbackFailed`
    /// and the payment stands. A refund gets 50,000 gas and goes to the balance when it is not taken. No token is
    /// called. Reverts with `NotOperator`, `QuorumNotMet`, `EmptyReport`, or `InsufficientGas` when the transaction
    /// carries too little gas to give a callback its due. Not blocked by a pause.
    /// @param items Items to settle. Their order is kept.
    function report(Fulfilment[] calldata items) external;

    /// @notice `report` signed by as many operators as the quorum asks for. Anyone may send it.
    /// @dev Each signs `reportDigest`, typed data of EIP-712; signatures come in rising order of their signers. The
    /// items are signed as one string of bytes, so that a signature costs the same whatever the number of items; sign
    /// only what you encoded yourself. A report that is sent twice settles no request twice. Reverts also with
    /// `SignersNotRising`, `ItemsMalformed`, or with OpenZeppelin's `ECDSAInvalidSignature` and
    /// `ECDSAInvalidSignatureS`.
    /// @param items `abi.encode` of the array of `Fulfilment` to settle. Their order is kept.
    /// @param operator Operator whose balance gets the operators' share; it is part of what is signed.
    /// @param signatures One for each operator of the quorum.
    function reportSigned(bytes calldata items, address operator, Signature[] calldata signatures) external;

    /// @notice Delivers a callback that failed, with all the gas the caller sends and no less than was paid for.
    /// @dev Anyone may call. Not blocked by a pause. Reverts with `NotRetriable`, `ResultMismatch`, `InsufficientGas`,
    /// or `CallbackReverted` when it fails again, which leaves it retriable.
    /// @param requester Account that asked.
    /// @param terms Terms of the request, as in `InferenceRequested` and its block.
    /// @param resultCid Result CID, as in `InferenceFulfilled`.
    /// @param answer Answer, as in `InferenceFulfilled`.
    function retryCallback(
        address requester,
        RequestTerms calldata terms,
        bytes calldata resultCid,
        bytes calldata answer
    ) external;

    /// @notice Puts ether into the caller's balance.
    function deposit() external payable;

    /// @notice Puts tokens into the caller's balance, by the allowance that the caller gave the coordinator.
    /// @dev Reverts with `TokenUnsupported`, `DepositTooLarge` or `TokenTransferInexact`, or with what the token says.
    /// @param token ERC-20 to take.
    /// @param amount How much.
    function depositToken(address token, uint256 amount) external;

    /// @notice `depositToken` with an ERC-2612 permit over `amount` instead of an allowance given before.
    /// @param token ERC-20 to take.
    /// @param amount How much, and the value of the permit.
    /// @param permit The caller's permit for the coordinator.
    function depositWithPermit(address token, uint256 amount, Permit calldata permit) external;

    /// @notice Pays out of the caller's balance.
    /// @dev Not blocked by a pause. Reverts with `ZeroAddress`, `BalanceTooLow` or `TransferFailed`, or with what the
    /// token says.
    /// @param token Token to pay out, the zero address for ether.
    /// @param to Account that receives it.
    /// @param amount How much.
    function withdraw(address token, address to, uint256 amount) external;

    /// @notice Proposes a whole set of operators and its quorum, in the place of an earlier proposal.
    /// @dev Only the owner. It can be put in force after seven days and a second, when the deadline of every
    /// request made before has passed. It does not expire. Reverts with
    /// `OperatorSetOutOfRange` or `OperatorsNotRising`.
    /// @param newOperators Operators, in rising order, at most 16.
    /// @param newQuorum How many of them must sign a report.
    function proposeOperators(address[] calldata newOperators, uint256 newQuorum) external;

    /// @notice Drops the proposal. Only the owner. Reverts with `NoSuchProposal`.
    function withdrawProposal() external;

    /// @notice Puts the proposal in force. Only the owner. Reverts with `NoSuchProposal` or `ProposalTooEarly`.
    /// @param newOperators Operators as proposed.
    /// @param newQuorum Quorum as proposed.
    function applyOperators(address[] calldata newOperators, uint256 newQuorum) external;

    /// @notice Takes an operator out of the set at once; the quorum stays, so nobody who is left can do more than
    /// before.
    /// @dev Only the owner. With fewer operators than the quorum nobody can report until another set is in force, and
    /// requests go back at their deadlines. Reverts with `NotOperator`.
    /// @param operator Operator to remove.
    function removeOperator(address operator) external;

    /// @notice Sets the price of 10,000 gas of a callback, for requests made from now on.
    /// @dev Only the owner. Reverts with `PriceNotRepresentable` above 10,000,000 units. At first it is 10,000 gwei for
    /// ether, one gwei a gas, and zero for a token, which means that no callback is sold for it.
    /// @param token Token of the price, the zero address for ether.
    /// @param price Price in units of the token, gwei for ether.
    function setCallbackPrice(address token, uint256 price) external;

    /// @notice Sets the publishers' share of models published from now on; the operator gets the rest.
    /// @dev Only the owner. Reverts with `ShareOutOfRange` outside 1,000 to 9,000.
    /// @param basisPoints Share in basis points.
    function setPublisherShare(uint256 basisPoints) external;

    /// @notice Sets what publishing a model costs, in wei, at most one ether. Only the owner.
    /// @dev Reverts with `PriceNotRepresentable`.
    /// @param fee Fee in wei.
    function setPublishingFee(uint256 fee) external;

    /// @notice Stops new requests. Reports, cancels, refunds, retries, deposits and withdrawals go on. Only the owner.
    function pause() external;

    /// @notice Accepts new requests again. Only the owner.
    function unpause() external;

    /// @notice What the chain still knows of a request; see `Request`. An id never seen has status `Unknown`.
    /// @param requestId Request to read.
    /// @return The request.
    function requestOf(bytes32 requestId) external view returns (Request memory);

    /// @notice Id of a request on these terms, whether it was made or not; with it anyone can prove what was asked.
    /// @param requester Account that asked.
    /// @param terms Terms of the request.
    /// @return Its id.
    function requestIdOf(address requester, RequestTerms calldata terms) external view returns (bytes32);

    /// @notice Whether a request was fulfilled with this result and this answer.
    /// @dev The slot keeps the first 232 bits of `keccak256(abi.encode(resultCid, answer))`.
    /// @param requestId Request to check.
    /// @param resultCid CID of the full result.
    /// @param answer Compact answer.
    /// @return True when the request is `Fulfilled` or `CallbackFailed` with exactly these.
    function verifyResult(bytes32 requestId, bytes calldata resultCid, bytes calldata answer)
        external
        view
        returns (bool);

    /// @notice What operators sign for `reportSigned`: the EIP-712 hash of `Report(address operator,bytes items)` in
    /// the domain that `eip712Domain` (ERC-5267) describes.
    /// @param items `abi.encode` of the array of `Fulfilment`.
    /// @param operator Operator whose balance gets the operators' share.
    /// @return Hash to sign.
    function reportDigest(bytes calldata items, address operator) external view returns (bytes32);

    /// @notice Number of models ever published; ids run from 1 to this number.
    /// @return Number of models.
    function modelCount() external view returns (uint256);

    /// @notice A model by its id. Reverts with `UnknownModel`.
    /// @param modelId Model to read.
    /// @return The model.
    function modelOf(uint256 modelId) external view returns (Model memory);

    /// @notice What `withdrawEarnings` would pay out.
    /// @param modelId Model to read.
    /// @return Earnings in its token.
    function earningsOf(uint256 modelId) external view returns (uint256);

    /// @notice Balance of an account: what `withdraw` pays out and `requestFromBalance` pays with.
    /// @param token Token to read, the zero address for ether.
    /// @param account Account to read.
    /// @return Balance in the token's smallest part.
    function balanceOf(address token, address account) external view returns (uint256);

    /// @notice Operators in force, in rising order.
    /// @return At most 16 accounts.
    function operators() external view returns (address[] memory);

    /// @notice How many operators must sign a report.
    /// @return Quorum in force.
    function quorum() external view returns (uint256);

    /// @notice The proposal that waits.
    /// @return proposalHash keccak256 of the ABI encoding of operators and quorum; zero when there is none.
    /// @return effectiveAt Unix time from which on it can be put in force.
    function proposal() external view returns (bytes32 proposalHash, uint256 effectiveAt);

    /// @notice Whether an account may report or sign.
    /// @param account Account to read.
    /// @return True for an operator.
    function isOperator(address account) external view returns (bool);

    /// @notice Price of 10,000 gas of a callback.
    /// @param token Token to read, the zero address for ether.
    /// @return Price in units of the token, gwei for ether.
    function callbackPriceOf(address token) external view returns (uint256);

    /// @notice Publishers' share of models published now.
    /// @return Share in basis points.
    function publisherShare() external view returns (uint256);

    /// @notice What publishing a model costs.
    /// @return Fee in wei.
    function publishingFee() external view returns (uint256);

    /// @notice Time after a request in which its requester can cancel it, and operators do not begin.
    /// @return Seconds; zero when requests cannot be cancelled.
    function cancelWindow() external view returns (uint256);

    /// @notice Number of requests ever made, which is the nonce of the next one.
    /// @return Nonce of the next request.
    function nextNonce() external view returns (uint256);
}

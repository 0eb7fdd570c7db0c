// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @title IInferenceCoordinator
/// @notice Records paid requests for a prediction about a picture, holds their money, and carries the answers back.
/// @dev Units: money is wei and always a whole number of gwei where it is a price or a payment; deadlines are Unix
/// seconds; shares are basis points; CIDs are raw bytes, either version 0 (0x12 0x20 and a 32-byte sha2-256 digest,
/// 34 bytes) or version 1 (0x01, codec 0x55 raw or 0x70 dag-pb, 0x12 0x20 and the digest, 36 bytes).
interface IInferenceCoordinator {
    /// @notice Where a request stands.
    /// @dev `Unknown`: never made. `Pending`: paid, held in escrow. `Fulfilled`: answered; its callback, if one was
    /// asked for, went through. `CallbackFailed`: answered and paid for, but the callback reverted; anyone may retry
    /// it. `Failed`: an operator gave a reason and the money went back. `Refunded`: the deadline passed unanswered
    /// and the money went back. Only `Pending` and `CallbackFailed` are ever left again.
    enum Status {
        Unknown,
        Pending,
        Fulfilled,
        CallbackFailed,
        Failed,
        Refunded
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
    /// @param payout Account that is credited with the publisher's share of every prediction.
    /// @param active Whether new requests are accepted.
    /// @param price Price of one prediction without a callback, in wei.
    /// @param manifestCid CID of the manifest that describes the model.
    struct Model {
        address payout;
        bool active;
        uint256 price;
        bytes manifestCid;
    }

    /// @notice What the chain still knows of a request.
    /// @dev While `Pending`, and after `Refunded`, every field is set except `failure`. After `Failed` the callback gas
    /// is no longer known (zero) and `failure` is set. After `Fulfilled` or `CallbackFailed` only `modelId`,
    /// `callbackGas` and `status` are known: the rest of the slot holds the commitment that `verifyResult` checks.
    /// @param requester Account that asked.
    /// @param modelId Model that was asked.
    /// @param payment Wei held, or paid back once `Failed` or `Refunded`.
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
    event ModelPublished(uint256 indexed modelId, address indexed payout, uint256 price, bytes manifestCid);
    /// @notice A model has a new price, in wei, for requests made from now on.
    event ModelRepriced(uint256 indexed modelId, uint256 price);
    /// @notice A model accepts new requests again (`active`) or no longer does.
    event ModelActivitySet(uint256 indexed modelId, bool active);

    /// @notice A request was paid for and waits for its answer.
    /// @dev Everything that the request id commits to is here: see `request`. `callbackGas` is the value after rounding
    /// up to a multiple of 10,000; `payment` is what is held, without the excess that went back.
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
    /// @notice The whole payment of a request, in wei, went back to its requester, directly or to their credit.
    event InferenceRefunded(bytes32 indexed requestId, address indexed requester, uint256 amount);
    /// @notice The requester's callback reverted or ran out of its gas; the answer stands and can be retried.
    event CallbackFailed(bytes32 indexed requestId);
    /// @notice A callback that had failed was delivered by `retryCallback`.
    event CallbackRetried(bytes32 indexed requestId);
    /// @notice An item of a report changed nothing.
    /// @dev `status` is where the request stood. `Pending` means that the item itself was at fault: an answer after the
    /// deadline, a result CID that is not well formed, or an answer of more than 1,024 bytes.
    event FulfilmentSkipped(bytes32 indexed requestId, Status status);
    /// @notice Ether that an account did not take directly was credited to it, in wei; `withdraw` pays it out.
    event Credited(address indexed account, uint256 amount);
    /// @notice An account may now report (`allowed`) or no longer may.
    event OperatorSet(address indexed operator, bool allowed);
    /// @notice Price of callback gas, in wei per gas, for requests made from now on.
    event CallbackGasPriceSet(uint256 weiPerGas);
    /// @notice Share of every payment that the model's publisher gets, in basis points, from now on.
    event PublisherShareSet(uint256 basisPoints);
    /// @notice A credit was paid out, in wei.
    event Withdrawn(address indexed account, address indexed to, uint256 amount);

    /// @notice No model has this id.
    error UnknownModel(uint256 modelId);
    /// @notice The model's publisher has paused it.
    error ModelInactive(uint256 modelId);
    /// @notice Only the account that published the model may change it.
    error NotModelPublisher(address caller, address publisher);
    /// @notice The registry holds as many models as it can number.
    error RegistryFull(uint256 maximum);
    /// @notice The bytes are not a CID of an accepted form.
    error InvalidCid(bytes cid);
    /// @notice The price is not a multiple of the smallest unit that can be stored, or too high.
    error PriceNotRepresentable(uint256 price);
    /// @notice The share lies outside its bounds, in basis points.
    error ShareOutOfRange(uint256 basisPoints, uint256 minimum, uint256 maximum);
    /// @notice Less was sent than `quote` asks, in wei.
    error PaymentTooLow(uint256 paid, uint256 required);
    /// @notice The deadline, Unix seconds, is too soon or too far.
    error DeadlineOutOfRange(uint256 deadline, uint256 earliest, uint256 latest);
    /// @notice More callback gas was asked for than can be granted.
    error CallbackGasTooHigh(uint256 callbackGas, uint256 maximum);
    /// @notice The caller is not an operator.
    error NotOperator(address caller);
    /// @notice The request is not pending, or its deadline has not passed.
    error NotRefundable(bytes32 requestId, Status status, uint256 deadline);
    /// @notice The request has no failed callback.
    error NotRetriable(bytes32 requestId, Status status);
    /// @notice Requester, result CID and answer are not those the request was fulfilled with.
    error ResultMismatch(bytes32 requestId);
    /// @notice The retried callback failed again.
    error CallbackReverted(bytes32 requestId);
    /// @notice Too little gas is left to give a callback what its requester paid for.
    error InsufficientGas(uint256 available, uint256 required);
    /// @notice The account has no credit.
    error NothingToWithdraw(address account);
    /// @notice The receiver of a withdrawal did not take the ether.
    error TransferFailed(address to, uint256 amount);
    /// @notice The zero address is no payee and no operator.
    error ZeroAddress();
    /// @notice A report has at least one item.
    error EmptyReport();

    /// @notice Publishes a model and becomes its publisher, the only account that may reprice or pause it.
    /// @dev Anyone may call. Reverts with `InvalidCid`, `PriceNotRepresentable`, `ZeroAddress` or `RegistryFull`.
    /// @param manifestCid CID of the model's manifest.
    /// @param price Price of one prediction in wei, a multiple of one gwei, at most 1,000 ether; zero is free.
    /// @param payout Account credited with the publisher's share. It cannot be changed.
    /// @return modelId Id of the model: 1 for the first, at most 4,095.
    function publishModel(bytes calldata manifestCid, uint256 price, address payout) external returns (uint256 modelId);

    /// @notice Changes the price of a model. Requests already made keep theirs.
    /// @dev Only its publisher. Reverts with `UnknownModel`, `NotModelPublisher` or `PriceNotRepresentable`.
    /// @param modelId Model to reprice.
    /// @param price New price in wei, a multiple of one gwei, at most 1,000 ether.
    function setModelPrice(uint256 modelId, uint256 price) external;

    /// @notice Pauses a model or takes it up again. Requests already made are still answered.
    /// @dev Only its publisher. Reverts with `UnknownModel` or `NotModelPublisher`.
    /// @param modelId Model to change.
    /// @param active Whether new requests are accepted.
    function setModelActive(uint256 modelId, bool active) external;

    /// @notice Number of models ever published; ids run from 1 to this number.
    /// @return Number of models.
    function modelCount() external view returns (uint256);

    /// @notice A model by its id. Reverts with `UnknownModel`.
    /// @param modelId Model to read.
    /// @return The model.
    function modelOf(uint256 modelId) external view returns (Model memory);

    /// @notice The account that published a model. Reverts with `UnknownModel`.
    /// @param modelId Model to read.
    /// @return Account that may reprice and pause it.
    function publisherOf(uint256 modelId) external view returns (address);

    /// @notice What `request` costs now: the model's price and the callback's gas at `callbackGasPrice`.
    /// @dev Reverts with `UnknownModel`, `ModelInactive` or `CallbackGasTooHigh`.
    /// @param modelId Model to ask.
    /// @param callbackGas Gas the callback needs; rounded up to a multiple of 10,000.
    /// @return payment Wei to send.
    function quote(uint256 modelId, uint256 callbackGas) external view returns (uint256 payment);

    /// @notice Asks a model about a picture. Send at least `quote`; the excess comes back in the same transaction.
    /// @dev Anyone may call, unless paused. The id is
    /// `keccak256(abi.encode(block.chainid, address(this), requester, nonce, modelId, imageCid, payment, callbackGas,
    /// deadline))` with the types (uint256, address, address, uint256, uint256, bytes, uint256, uint256, uint256) and
    /// the values of the `InferenceRequested` event: `payment` without the excess and `callbackGas` after rounding up.
    /// `nonce` counts the requests of this coordinator from zero. A callback is made only to a requester that has code
    /// when the answer arrives. The excess is sent with 50,000 gas, and credited when the caller does not take it.
    /// Reverts with `EnforcedPause`, `UnknownModel`, `ModelInactive`, `InvalidCid`, `CallbackGasTooHigh`,
    /// `DeadlineOutOfRange` or `PaymentTooLow`.
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

    /// @notice Settles many requests in one transaction.
    /// @dev Only operators. Each item stands alone. An item is skipped with `FulfilmentSkipped`, and its neighbours
    /// go on, when its request is not `Pending`, when it is an answer and the deadline has passed (from that second on
    /// the money is the requester's, and no race decides it), when its result CID is not well formed or when its
    /// answer has more than 1,024 bytes. A failure is accepted after the deadline as well, since it does what
    /// `refund` does and gives the reason besides.
    /// First every item is settled and every credit written, then callbacks and refunds leave in the order of
    /// the items. A callback gets exactly the gas its requester paid for, and nothing it returns is copied; when it
    /// fails the request becomes `CallbackFailed` and the payment stands. A refund gets 50,000 gas and becomes a
    /// credit when it is not taken.
    /// Reverts with `NotOperator`, `EmptyReport`, or `InsufficientGas` when the transaction carries too little gas to
    /// give a callback its due. Not blocked by a pause.
    /// @param items Items to settle. Their order is kept.
    function report(Fulfilment[] calldata items) external;

    /// @notice Sends the payment of an unanswered request back once its deadline has passed.
    /// @dev Anyone may call; the money goes to the requester with 50,000 gas, or to their credit. Not blocked by a
    /// pause. Reverts with `NotRefundable`.
    /// @param requestId Request to refund.
    function refund(bytes32 requestId) external;

    /// @notice Delivers a callback that failed, with all the gas the caller sends and no less than was paid for.
    /// @dev Anyone may call. Not blocked by a pause. Reverts with `NotRetriable`, `ResultMismatch`, `InsufficientGas`,
    /// or `CallbackReverted` when it fails again, which leaves it retriable.
    /// @param requestId Request whose callback failed.
    /// @param requester Account that asked, as in `InferenceRequested`.
    /// @param resultCid Result CID, as in `InferenceFulfilled`.
    /// @param answer Answer, as in `InferenceFulfilled`.
    function retryCallback(bytes32 requestId, address requester, bytes calldata resultCid, bytes calldata answer)
        external;

    /// @notice Pays the caller's whole credit out.
    /// @dev Anyone with a credit. Not blocked by a pause. Reverts with `ZeroAddress`, `NothingToWithdraw` or
    /// `TransferFailed`.
    /// @param to Account that receives the ether.
    /// @return amount Wei paid out.
    function withdraw(address to) external returns (uint256 amount);

    /// @notice Allows an account to report, or no longer allows it. Only the owner. Reverts with `ZeroAddress`.
    /// @param operator Account to change.
    /// @param allowed Whether it may report.
    function setOperator(address operator, bool allowed) external;

    /// @notice Sets the price of callback gas for requests made from now on.
    /// @dev Only the owner. Reverts with `PriceNotRepresentable` when it is not a multiple of 100,000 wei (so that
    /// 10,000 gas cost a whole number of gwei) or is above 1,000 gwei.
    /// @param weiPerGas Price in wei per gas.
    function setCallbackGasPrice(uint256 weiPerGas) external;

    /// @notice Sets the publishers' share of every payment settled from now on; the operator gets the rest.
    /// @dev Only the owner. Reverts with `ShareOutOfRange` outside 1,000 to 9,000.
    /// @param basisPoints Share in basis points.
    function setPublisherShare(uint256 basisPoints) external;

    /// @notice Stops new requests. Reports, refunds, retries and withdrawals go on. Only the owner.
    function pause() external;

    /// @notice Accepts new requests again. Only the owner.
    function unpause() external;

    /// @notice What the chain still knows of a request; see `Request`. An id never seen has status `Unknown`.
    /// @param requestId Request to read.
    /// @return The request.
    function requestOf(bytes32 requestId) external view returns (Request memory);

    /// @notice Wei that `withdraw` would pay an account.
    /// @param account Account to read.
    /// @return Credit in wei.
    function creditOf(address account) external view returns (uint256);

    /// @notice Whether an account may report.
    /// @param account Account to read.
    /// @return True for an operator.
    function isOperator(address account) external view returns (bool);

    /// @notice Price of callback gas in wei per gas.
    /// @return Price in wei.
    function callbackGasPrice() external view returns (uint256);

    /// @notice Share of every payment that goes to the model's publisher.
    /// @return Share in basis points.
    function publisherShare() external view returns (uint256);

    /// @notice Number of requests ever made, which is the nonce of the next one.
    /// @return Nonce of the next request.
    function nextNonce() external view returns (uint256);

    /// @notice Whether a request was fulfilled for this requester with this result and this answer.
    /// @dev The slot keeps the first 232 bits of `keccak256(abi.encode(requester, resultCid, answer))`.
    /// @param requestId Request to check.
    /// @param requester Account that asked.
    /// @param resultCid CID of the full result.
    /// @param answer Compact answer.
    /// @return True when the request is `Fulfilled` or `CallbackFailed` with exactly these.
    function verifyResult(bytes32 requestId, address requester, bytes calldata resultCid, bytes calldata answer)
        external
        view
        returns (bool);
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Cid} from "../Cid.sol";
import {ClassificationAnswer} from "../ClassificationAnswer.sol";
import {InferenceConsumer} from "../InferenceConsumer.sol";
import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";

/// @title DigitBet
/// @notice Example: people bet on the digit that a model will read in a picture. Those who backed it share the pot by
/// their stakes; nobody rules over it and nobody takes a cut.
/// @dev A bet begins with the CID of the picture, so that the picture is fixed before the first stake without being
/// known: publish it only after the bet has closed. Whoever knows the picture earlier can work out the answer, and
/// whoever alone has it can keep it back, which voids the bet; do not bet against them.
/// Every bet ends. Its answer counts up to one day after closing, and from the next second on, or as soon as its
/// request is reclaimed, or when nobody backed the digit, it is void and the stakes go back. Money is taken out by its
/// owner (`claim`), so that nobody can stop the others; shares are rounded down, and less than one wei for each winner
/// stays.
contract DigitBet is InferenceConsumer {
    using Cid for bytes;

    /// @notice Where a bet stands.
    /// @dev `Open`: stakes are taken. `Closed`: somebody has to ask. `Asked`: the answer may come. `Settled`: there is
    /// a digit and somebody backed it. `Void`: stakes go back.
    enum Phase {
        Open,
        Closed,
        Asked,
        Settled,
        Void
    }

    /// @dev `phase` is never `Closed`, which is told by the time alone; see `phaseOf`.
    struct Bet {
        bytes32 imageDigest;
        Cid.Form imageForm;
        Phase phase;
        uint16 outcome;
        uint64 closesAt;
        uint128 pot;
    }

    /// @notice What an account has on a bet: one digit only.
    struct Stake {
        uint8 digit;
        uint128 amount;
    }

    /// @notice Gas asked for each callback; settling takes about 20,000.
    uint256 public constant CALLBACK_GAS = 50_000;
    /// @notice Longest time, in seconds, for which a bet takes stakes.
    uint256 public constant MAX_OPEN_TIME = 30 days;
    /// @notice Time, in seconds, between closing and the last moment for the answer.
    uint256 public constant ANSWER_TIME = 1 days;
    /// @notice Highest digit.
    uint8 public constant MAX_DIGIT = 9;

    /// @notice Digit model that is asked.
    uint256 public immutable modelId;

    /// @notice Number of bets ever opened, which is the id of the last.
    uint256 public lastBetId;

    /// @notice What an account has on a bet.
    mapping(uint256 betId => mapping(address account => Stake stake)) public stakeOf;
    /// @notice What all accounts together have on one class of a bet, in wei.
    mapping(uint256 betId => mapping(uint16 classIndex => uint256 amount)) public backing;

    mapping(uint256 betId => Bet bet) private _bets;
    mapping(bytes32 requestId => uint256 betId) private _betOf;

    /// @notice A bet takes stakes up to `closesAt`, Unix time.
    event BetOpened(uint256 indexed betId, bytes imageCid, uint256 closesAt);
    /// @notice An account has put ether on a digit.
    event Staked(uint256 indexed betId, address indexed account, uint8 indexed digit, uint256 amount);
    /// @notice The model was asked.
    event BetAsked(uint256 indexed betId, bytes32 indexed requestId);
    /// @notice The model answered, and `phase` says whether anybody backed what it read.
    event BetAnswered(uint256 indexed betId, uint16 indexed classIndex, Phase phase);
    /// @notice The picture could not be read, and the stakes go back.
    event BetVoided(uint256 indexed betId);
    /// @notice An account has taken its share, or its stake, out.
    event Claimed(uint256 indexed betId, address indexed account, uint256 amount);

    /// @notice No bet has this id.
    error UnknownBet(uint256 betId);
    /// @notice The bet stands elsewhere than it would have to.
    error WrongPhase(uint256 betId, Phase phase);
    /// @notice A bet closes later than now and within 30 days; times are Unix seconds.
    error ClosingTimeOutOfRange(uint256 closesAt, uint256 latest);
    /// @notice A digit is 0 to 9.
    error NotADigit(uint8 digit);
    /// @notice An account backs one digit of a bet, and has chosen.
    error OtherDigitBacked(uint8 digit);
    /// @notice The account has nothing on the bet that it could take out.
    error NothingToClaim(uint256 betId, address account);

    /// @param coordinator_ Coordinator to ask.
    /// @param modelId_ Digit model to ask.
    constructor(IInferenceCoordinator coordinator_, uint256 modelId_) InferenceConsumer(coordinator_) {
        modelId = modelId_;
    }

    /// @notice Opens a bet on a picture. Anyone may.
    /// @param imageCid CID of the picture, which is better not published yet.
    /// @param closesAt Last second, Unix time, for stakes.
    /// @return betId Id of the bet.
    function open(bytes calldata imageCid, uint256 closesAt) external returns (uint256 betId) {
        Cid.Form form = imageCid.formOf();
        if (form == Cid.Form.None) revert IInferenceCoordinator.InvalidCid(imageCid);
        uint256 latest = block.timestamp + MAX_OPEN_TIME;
        if (closesAt <= block.timestamp || closesAt > latest) revert ClosingTimeOutOfRange(closesAt, latest);
        betId = ++lastBetId;
        _bets[betId] = Bet({
            imageDigest: imageCid.digestOf(),
            imageForm: form,
            phase: Phase.Open,
            outcome: 0,
            // Fits: checked against `latest`
            closesAt: uint64(closesAt),
            pot: 0
        });
        emit BetOpened(betId, imageCid, closesAt);
    }

    /// @notice Puts the ether that is sent on a digit, or adds it to what the caller has there.
    /// @param betId Bet to join.
    /// @param digit Digit to back.
    function stake(uint256 betId, uint8 digit) external payable {
        _requirePhase(betId, Phase.Open);
        if (digit > MAX_DIGIT) revert NotADigit(digit);
        Stake storage mine = stakeOf[betId][msg.sender];
        if (mine.amount != 0 && mine.digit != digit) revert OtherDigitBacked(mine.digit);
        // The casts fit: there are not 2^128 wei
        mine.digit = digit;
        mine.amount += uint128(msg.value);
        backing[betId][digit] += msg.value;
        _bets[betId].pot += uint128(msg.value);
        emit Staked(betId, msg.sender, digit, msg.value);
    }

    /// @notice Asks the model once the bet is closed. Anyone may, and pays: send at least `price()`; what is left over
    /// comes back, and so does the payment, by `reclaim`, when there is no answer.
    /// @param betId Bet to ask for.
    /// @return requestId Id of the request.
    function ask(uint256 betId) external payable returns (bytes32 requestId) {
        _requirePhase(betId, Phase.Closed);
        Bet storage bet = _bets[betId];
        bet.phase = Phase.Asked;
        bytes memory imageCid = Cid.join(bet.imageForm, bet.imageDigest);
        uint256 rest;
        (requestId, rest) = _requestForSender(modelId, imageCid, CALLBACK_GAS, bet.closesAt + ANSWER_TIME);
        _betOf[requestId] = betId;
        emit BetAsked(betId, requestId);
        _pay(msg.sender, rest);
    }

    /// @notice Pays the caller's share of a settled bet out, or the stake of a void one.
    /// @param betId Bet that has ended.
    /// @return amount Wei paid out.
    function claim(uint256 betId) external returns (uint256 amount) {
        Phase phase = phaseOf(betId);
        if (phase != Phase.Settled && phase != Phase.Void) revert WrongPhase(betId, phase);
        Stake memory mine = stakeOf[betId][msg.sender];
        amount = mine.amount;
        if (phase == Phase.Settled) {
            Bet storage bet = _bets[betId];
            amount = mine.digit == bet.outcome ? amount * bet.pot / backing[betId][bet.outcome] : 0;
        }
        if (amount == 0) revert NothingToClaim(betId, msg.sender);
        delete stakeOf[betId][msg.sender];
        emit Claimed(betId, msg.sender, amount);
        _pay(msg.sender, amount);
    }

    /// @notice What `ask` costs now, in wei.
    /// @return Wei to send.
    function price() external view returns (uint256) {
        return coordinator.quote(modelId, CALLBACK_GAS);
    }

    /// @notice A bet by its id. Reverts with `UnknownBet`.
    /// @param betId Bet to read.
    /// @return imageCid CID of its picture.
    /// @return closesAt Last second, Unix time, for stakes.
    /// @return pot Wei staked on it.
    /// @return outcome Class that the model named; it counts when the bet is `Settled`.
    function betOf(uint256 betId)
        external
        view
        returns (bytes memory imageCid, uint256 closesAt, uint256 pot, uint16 outcome)
    {
        Bet storage bet = _bets[betId];
        if (bet.closesAt == 0) revert UnknownBet(betId);
        return (Cid.join(bet.imageForm, bet.imageDigest), bet.closesAt, bet.pot, bet.outcome);
    }

    /// @notice Where a bet stands now. Reverts with `UnknownBet`.
    /// @param betId Bet to read.
    /// @return Its phase.
    function phaseOf(uint256 betId) public view returns (Phase) {
        Bet storage bet = _bets[betId];
        if (bet.closesAt == 0) revert UnknownBet(betId);
        if (bet.phase == Phase.Settled) return Phase.Settled;
        if (bet.phase == Phase.Void || block.timestamp > bet.closesAt + ANSWER_TIME) return Phase.Void;
        if (bet.phase == Phase.Asked) return Phase.Asked;
        return block.timestamp > bet.closesAt ? Phase.Closed : Phase.Open;
    }

    /// @inheritdoc InferenceConsumer
    function _onAnswer(bytes32 requestId, bytes calldata, bytes calldata answer) internal override {
        uint256 betId = _betOf[requestId];
        // A callback that failed and is retried too late must not undo that stakes went back
        _requirePhase(betId, Phase.Asked);
        // slither-disable-next-line unused-return
        (uint16 classIndex,) = ClassificationAnswer.top(answer);
        Bet storage bet = _bets[betId];
        bet.outcome = classIndex;
        bet.phase = backing[betId][classIndex] == 0 ? Phase.Void : Phase.Settled;
        emit BetAnswered(betId, classIndex, bet.phase);
    }

    /// @inheritdoc InferenceConsumer
    function _onReturn(bytes32 requestId) internal override {
        uint256 betId = _betOf[requestId];
        _bets[betId].phase = Phase.Void;
        emit BetVoided(betId);
    }

    /// @dev Reverts unless a bet stands where it must.
    function _requirePhase(uint256 betId, Phase expected) private view {
        Phase phase = phaseOf(betId);
        if (phase != expected) revert WrongPhase(betId, phase);
    }
}

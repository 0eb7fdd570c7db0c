// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {EmptyConsumer} from "../../../contracts/mocks/EmptyConsumer.sol";
import {EtherForcer} from "../../../contracts/mocks/EtherForcer.sol";
import {EtherRefuser} from "../../../contracts/mocks/EtherRefuser.sol";
import {FalseReturnToken} from "../../../contracts/mocks/FalseReturnToken.sol";
import {FeeOnTransferToken} from "../../../contracts/mocks/FeeOnTransferToken.sol";
import {GasBurner} from "../../../contracts/mocks/GasBurner.sol";
import {NoReturnToken} from "../../../contracts/mocks/NoReturnToken.sol";
import {PlainToken} from "../../../contracts/mocks/PlainToken.sol";
import {ReentrantConsumer} from "../../../contracts/mocks/ReentrantConsumer.sol";
import {ReentrantToken} from "../../../contracts/mocks/ReentrantToken.sol";
import {ReturnBomb} from "../../../contracts/mocks/ReturnBomb.sol";
import {RevertingConsumer} from "../../../contracts/mocks/RevertingConsumer.sol";
import {RevertingToken} from "../../../contracts/mocks/RevertingToken.sol";
import {ICoordinator} from "../base/Deployer.sol";
import {Books} from "./Books.sol";
import {DwindlingToken} from "./DwindlingToken.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @dev The cheatcodes that only the probe needs.
interface VmState {
    function snapshotState() external returns (uint256 id);
    function revertToStateAndDelete(uint256 id) external returns (bool success);
}

/// @notice Plays everyone at once: people, hostile consumers and tokens, operators, the owner, publishers and time.
/// @dev Each call is foreseen, errors included, so none of the handler's own calls ever reverts.
contract Handler is Books {
    enum Way {
        Value,
        ValueMany,
        Balance,
        BalanceMany,
        Allowance,
        PermitWay
    }

    struct Question {
        Way way;
        address requester;
        uint256 modelId;
        address token;
        uint256 callbackGas;
        uint256 deadline;
        uint256 count;
        uint256 payment;
        uint256 allowed;
        bytes[] images;
    }

    address private immutable _stranger = makeAccount("stranger");
    address private immutable _purse = makeAccount("purse");
    RevertingConsumer private immutable _revertingConsumer;
    ReentrantConsumer private immutable _reentrantConsumer;
    ReentrantToken private immutable _reentrantToken;

    address private _owner;
    address private _nextOwner = makeAccount("second owner");
    uint256 private _publisherShare = 3000;
    uint256 private _publishingFee = 0.01 ether;

    address[] private _askers;
    mapping(address account => bool fails) private _failsCallback;

    /// @dev All who are ever operators, in rising order, and whether they are now.
    address[] private _candidates;
    mapping(address account => bool isOperator) private _isOperator;
    uint256 private _quorum = 1;
    /// @dev Which of the candidates are proposed, as bits; zero for no proposal.
    uint256 private _proposed;
    uint256 private _proposedQuorum;
    uint256 private _effectiveAt;

    constructor(ICoordinator coordinator_, address owner_, address[] memory candidates) Books(coordinator_) {
        _owner = owner_;
        _candidates = candidates;
        for (uint256 i = 0; i < 2; ++i) {
            _isOperator[candidates[i]] = true;
        }
        for (uint256 i = 0; i < candidates.length; ++i) {
            makeAccount(candidateName(i));
            _accounts.push(candidates[i]);
        }
        _accounts.push(_owner);
        _accounts.push(_nextOwner);

        _revertingConsumer = new RevertingConsumer(coordinator_);
        _reentrantConsumer = new ReentrantConsumer(coordinator_);
        // It has struck once before, so that every later time costs the same.
        _reentrantConsumer.fulfillInference(0, "", "");
        address burner = address(new GasBurner(coordinator_));
        address refuser = address(new EtherRefuser(coordinator_));
        address bomb = address(new ReturnBomb(coordinator_));
        _refusesEther[burner] = _refusesEther[refuser] = true;
        _failsCallback[burner] = _failsCallback[bomb] = _failsCallback[address(_revertingConsumer)] = true;
        _askers = [
            makeAccount("first person"),
            makeAccount("second person"),
            address(new EmptyConsumer(coordinator_)),
            address(_revertingConsumer),
            address(_reentrantConsumer),
            burner,
            refuser,
            bomb
        ];
        for (uint256 i = 0; i < _askers.length; ++i) {
            _accounts.push(_askers[i]);
        }

        _falseToken = new FalseReturnToken(6);
        _revertingToken = new RevertingToken(9);
        _feeToken = address(new FeeOnTransferToken(6));
        _noReturnToken = address(new NoReturnToken(18));
        _dwindlingToken = new DwindlingToken(18);
        _reentrantToken = new ReentrantToken(18, coordinator_);
        _tokens = [
            ETHER,
            address(new PlainToken(6)),
            address(_falseToken),
            address(_revertingToken),
            _feeToken,
            _noReturnToken,
            address(_dwindlingToken),
            address(_reentrantToken)
        ];
        for (uint256 i = 1; i < _tokens.length; ++i) {
            for (uint256 j = 0; j < _askers.length; ++j) {
                PlainToken(_tokens[i]).mint(_askers[j], type(uint128).max);
            }
        }
        _callbackPrices[ETHER] = 10_000;
    }

    /// @notice Publishes one model in each token, a second one in ether that a hostile contract is paid from, and a
    /// free one.
    function begin() external {
        for (uint256 i = 0; i < _tokens.length; ++i) {
            _publish(_askers[i], _tokens[i], _tokens[i] == _feeToken ? 90 : 1000 + i, _askers[0]);
        }
        _publish(_askers[0], ETHER, 300_000_000, address(_reentrantConsumer));
        _publish(_askers[1], ETHER, 0, _askers[1]);
    }

    function candidateName(uint256 i) public pure returns (string memory) {
        return string(abi.encodePacked("operator ", bytes1(uint8(0x61 + i))));
    }

    // ------------------------------------------------------------------------------------------------------------
    // Ask
    // ------------------------------------------------------------------------------------------------------------

    function ask(uint256 seed) external {
        delete _touched;
        Question memory question;
        question.requester = _askers[_pick(seed, 1, _askers.length)];
        question.modelId = 1 + _pick(seed, 2, _models.length);
        ModelBook memory model = _models[question.modelId - 1];
        question.token = model.token;
        question.way = _wayFor(model.token, _draw(seed, 3));
        question.callbackGas = _pick(seed, 4, 2) == 0 ? 0 : 80_000 + _pick(seed, 5, 200_000);
        question.deadline =
            block.timestamp + 30 seconds + _pick(seed, 6, _pick(seed, 7, 4) == 0 ? 7 days - 30 : 2 hours);
        question.count = question.way == Way.ValueMany || question.way == Way.BalanceMany ? 1 + _pick(seed, 8, 4) : 1;
        uint256 units = (question.callbackGas + 9999) / 10_000;
        question.payment = (model.price + units * _callbackPrices[model.token]) * model.unit;
        question.images = new bytes[](question.count);
        for (uint256 i = 0; i < question.count; ++i) {
            question.images[i] = _cid(keccak256(abi.encode(seed, i)));
        }

        bytes memory expected = _foreseen(question, model);
        uint256 total = question.payment * question.count;
        if (question.way == Way.Value || question.way == Way.ValueMany) {
            _askByValue(question, total, expected, _draw(seed, 9));
        } else if (question.way == Way.Balance || question.way == Way.BalanceMany) {
            _askFromBalance(question, total, expected, _draw(seed, 9));
        } else {
            _askByToken(question, expected, _draw(seed, 9));
        }
    }

    /// @dev Mostly a way that suits the model's token.
    function _wayFor(address token, uint256 dice) private pure returns (Way) {
        if (dice % 16 == 0) return Way((dice >> 8) % 6);
        if (token == ETHER) return Way((dice >> 8) % 4);
        return Way(2 + (dice >> 8) % 4);
    }

    /// @dev What refuses every way to ask.
    function _foreseen(Question memory question, ModelBook memory model) private view returns (bytes memory) {
        if (coordinator.paused()) return abi.encodeWithSelector(Pausable.EnforcedPause.selector);
        if (question.deadline > block.timestamp + 7 days) {
            return abi.encodeWithSelector(
                IInferenceCoordinator.DeadlineOutOfRange.selector,
                question.deadline,
                block.timestamp + 30,
                block.timestamp + 7 days
            );
        }
        if (!model.active) {
            return abi.encodeWithSelector(IInferenceCoordinator.ModelInactive.selector, question.modelId);
        }
        if (question.callbackGas != 0 && model.token != ETHER && _callbackPrices[model.token] == 0) {
            return abi.encodeWithSelector(IInferenceCoordinator.CallbackNotSold.selector, model.token);
        }
        return "";
    }

    function _askByValue(Question memory question, uint256 total, bytes memory expected, uint256 dice) private {
        uint256 value = total + (dice % 3 == 0 ? dice % 0.1 ether : 0);
        if (expected.length == 0 && question.token != ETHER) {
            expected = abi.encodeWithSelector(
                IInferenceCoordinator.ModelPricedInToken.selector, question.modelId, question.token
            );
        }
        if (expected.length == 0 && total != 0 && dice % 16 == 0) {
            value = total - 1;
            expected = abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, value, total);
        }
        bytes memory result = _do(
            question.requester,
            value,
            question.way == Way.Value
                ? abi.encodeCall(
                    coordinator.request, (question.modelId, question.images[0], question.callbackGas, question.deadline)
                )
                : abi.encodeCall(
                    coordinator.requestMany,
                    (question.modelId, question.images, question.callbackGas, question.deadline)
                ),
            expected
        );
        if (expected.length != 0) return;
        _bookIn(ETHER, value);
        _bookPayOut(question.requester, value - total);
        _bookAsked(question, result, false);
    }

    function _askFromBalance(Question memory question, uint256 total, bytes memory expected, uint256 dice) private {
        uint256 maximum = total;
        if (expected.length == 0 && total != 0 && dice % 16 == 0) {
            maximum = total - 1;
            expected = abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, total, maximum);
        }
        if (expected.length == 0 && dice % 4 != 1) _fund(question.requester, question.token, total);
        uint256 balance = _balances[question.token][question.requester];
        if (expected.length == 0 && balance < total) {
            expected = _balanceError(question.token, question.requester, balance, total);
        }
        bytes memory result = _do(
            question.requester,
            0,
            question.way == Way.Balance
                ? abi.encodeCall(
                    coordinator.requestFromBalance,
                    (question.modelId, question.images[0], question.callbackGas, question.deadline, maximum)
                )
                : abi.encodeCall(
                    coordinator.requestManyFromBalance,
                    (question.modelId, question.images, question.callbackGas, question.deadline, maximum)
                ),
            expected
        );
        if (expected.length != 0) return;
        _bookDebit(question.token, question.requester, total);
        _bookAsked(question, result, true);
    }

    function _askByToken(Question memory question, bytes memory expected, uint256 dice) private {
        uint256 maximum = question.payment + dice % 3;
        if (expected.length == 0 && question.token == ETHER) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.ModelPricedInEther.selector, question.modelId);
        }
        if (expected.length == 0 && question.payment != 0 && dice % 16 == 0) {
            maximum = question.payment - 1;
            expected =
                abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, question.payment, maximum);
        }
        IInferenceCoordinator.Permit memory permit;
        if (question.token != ETHER) {
            if (question.way == Way.PermitWay) {
                (permit, question.allowed) = _permitFor(question.requester, question.token, maximum, dice);
            } else {
                question.allowed = dice % 8 == 1 ? question.payment / 2 : question.payment;
                _allow(question.requester, question.token, question.allowed);
            }
            if (expected.length == 0) {
                expected = _pullError(question.token, question.requester, question.allowed, question.payment);
            }
        }
        bytes memory result = _do(
            question.requester,
            0,
            question.way == Way.Allowance
                ? abi.encodeCall(
                    coordinator.requestWithToken,
                    (question.modelId, question.images[0], question.callbackGas, question.deadline, maximum)
                )
                : abi.encodeCall(
                    coordinator.requestWithPermit,
                    (question.modelId, question.images[0], question.callbackGas, question.deadline, maximum, permit)
                ),
            expected
        );
        if (expected.length != 0) return;
        _bookIn(question.token, question.payment);
        _bookAsked(question, result, true);
    }

    /// @dev Writes what was asked, and computes each id by other means than the coordinator.
    function _bookAsked(Question memory question, bytes memory result, bool toBalance) private {
        bool many = question.way == Way.ValueMany || question.way == Way.BalanceMany;
        bytes32[] memory ids;
        if (many) {
            ids = abi.decode(result, (bytes32[]));
        } else {
            ids = new bytes32[](1);
            ids[0] = abi.decode(result, (bytes32));
        }
        _same("ids", ids.length, question.count);
        for (uint256 i = 0; i < ids.length; ++i) {
            Entry memory entry = Entry({
                id: ids[i],
                image: bytes32(0),
                result: bytes32(0),
                requester: question.requester,
                createdAt: uint48(block.timestamp),
                deadline: uint48(question.deadline),
                payment: uint128(question.payment),
                nonce: uint48(_entries.length),
                callbackGas: uint32((question.callbackGas + 9999) / 10_000 * 10_000),
                modelId: uint16(question.modelId),
                toBalance: toBalance,
                status: IInferenceCoordinator.Status.Pending,
                failure: IInferenceCoordinator.FailureReason.None
            });
            bytes memory image = question.images[i];
            assembly ("memory-safe") {
                mstore(add(entry, 0x20), mload(add(image, 0x24)))
            }
            bytes32 id = keccak256(
                bytes.concat(
                    abi.encode(block.chainid, address(coordinator), question.requester, entry.nonce),
                    abi.encode(entry.modelId, uint256(10 * 32), entry.payment, entry.callbackGas),
                    abi.encode(entry.deadline, entry.createdAt, image.length),
                    image,
                    bytes28(0)
                )
            );
            _must("id", ids[i] == id);
            _touched.push(_entries.length);
            _pending.push(_entries.length);
            _entries.push(entry);
            _purses[question.token].escrow += question.payment;
        }
    }

    // ------------------------------------------------------------------------------------------------------------
    // Settle
    // ------------------------------------------------------------------------------------------------------------

    function cancel(uint256 seed) external {
        delete _touched;
        if (_entries.length == 0) return;
        // Mostly one of the latest, whose window may still be open.
        uint256 index = _pick(seed, 1, 4) == 0
            ? _pick(seed, 2, _entries.length)
            : _entries.length - 1 - _pick(seed, 2, _entries.length < 4 ? _entries.length : 4);
        Entry memory entry = _entries[index];
        IInferenceCoordinator.RequestTerms memory terms = _termsOf(entry);
        address caller = _pick(seed, 3, 8) == 0 ? _stranger : entry.requester;
        uint256 end = terms.createdAt + CANCEL_WINDOW;
        bool pending = entry.status == IInferenceCoordinator.Status.Pending;
        bool allowed = caller == entry.requester && pending && block.timestamp < end;
        bytes memory expected = allowed
            ? bytes("")
            : abi.encodeWithSelector(
                IInferenceCoordinator.NotCancellable.selector,
                coordinator.requestIdOf(caller, terms),
                caller == entry.requester ? entry.status : IInferenceCoordinator.Status.Unknown,
                end
            );
        _touched.push(index);
        _do(caller, 0, abi.encodeCall(coordinator.cancel, (terms)), expected);
        if (!allowed) return;
        _bookSettled(index, IInferenceCoordinator.Status.Cancelled);
        _bookGivenBack(entry);
    }

    function refund(uint256 seed) external {
        delete _touched;
        if (_entries.length == 0) return;
        uint256 index = _pick(seed, 1, 4) == 0 || _pending.length == 0
            ? _pick(seed, 2, _entries.length)
            : _pending[_pick(seed, 2, _pending.length)];
        _refund(index);
    }

    function _refund(uint256 index) private {
        Entry memory entry = _entries[index];
        bool allowed = entry.status == IInferenceCoordinator.Status.Pending && block.timestamp > entry.deadline;
        bytes memory expected = allowed
            ? bytes("")
            : abi.encodeWithSelector(
                IInferenceCoordinator.NotRefundable.selector,
                entry.id,
                entry.status,
                _isAnswered(entry.status) ? 0 : entry.deadline
            );
        _touched.push(index);
        _do(_stranger, 0, abi.encodeCall(coordinator.refund, (entry.id)), expected);
        if (!allowed) return;
        _bookSettled(index, IInferenceCoordinator.Status.Refunded);
        _bookGivenBack(entry);
    }

    function report(uint256 seed) external {
        delete _touched;
        (IInferenceCoordinator.Fulfilment[] memory items, uint256[] memory chosen) = _items(seed);
        address operator = _candidates[_pick(seed, 1, _candidates.length)];
        bytes memory expected;
        if (!_isOperator[operator]) expected = _operatorError(operator);
        else if (_quorum != 1) expected = _quorumError(1);
        _do(operator, 0, abi.encodeCall(coordinator.report, (items)), expected);
        if (expected.length == 0) _bookReport(items, chosen, operator);
    }

    function reportSigned(uint256 seed) external {
        delete _touched;
        (IInferenceCoordinator.Fulfilment[] memory items, uint256[] memory chosen) = _items(seed);
        uint256 signers = _pick(seed, 1, 3) == 0 ? _pick(seed, 2, 8) : _signersInForce();
        address operator = _candidates[_pick(seed, 3, _candidates.length)];
        bool turned = _pick(seed, 4, 8) == 0;
        _reportSigned(items, chosen, operator, signers, turned);
    }

    /// @param signers Which of the candidates sign, as bits.
    /// @param turned Whether the signatures come in falling order.
    function _reportSigned(
        IInferenceCoordinator.Fulfilment[] memory items,
        uint256[] memory chosen,
        address operator,
        uint256 signers,
        bool turned
    ) private {
        address[] memory names = _candidatesOf(signers);
        if (turned) {
            for (uint256 i = 0; i < names.length / 2; ++i) {
                (names[i], names[names.length - 1 - i]) = (names[names.length - 1 - i], names[i]);
            }
        }
        bytes memory expected = _signedError(operator, names);
        bytes32 digest = coordinator.reportDigest(abi.encode(items), operator);
        IInferenceCoordinator.Signature[] memory signatures = new IInferenceCoordinator.Signature[](names.length);
        for (uint256 i = 0; i < names.length; ++i) {
            (uint8 v, bytes32 r, bytes32 s) = sign(names[i], digest);
            signatures[i] = IInferenceCoordinator.Signature(r, s | bytes32(uint256(v - 27) << 255));
        }
        _do(_stranger, 0, abi.encodeCall(coordinator.reportSigned, (abi.encode(items), operator, signatures)), expected);
        if (expected.length == 0) _bookReport(items, chosen, operator);
    }

    function _signedError(address operator, address[] memory names) private view returns (bytes memory) {
        if (!_isOperator[operator]) return _operatorError(operator);
        if (names.length != _quorum) return _quorumError(names.length);
        for (uint256 i = 0; i < names.length; ++i) {
            if (!_isOperator[names[i]]) return _operatorError(names[i]);
            if (i != 0 && names[i] < names[i - 1]) {
                return abi.encodeWithSelector(IInferenceCoordinator.SignersNotRising.selector, names[i - 1], names[i]);
            }
        }
        return "";
    }

    /// @dev One to six items: mostly pending requests, now and then any request or none, and some of bad form.
    function _items(uint256 seed)
        private
        view
        returns (IInferenceCoordinator.Fulfilment[] memory items, uint256[] memory chosen)
    {
        uint256 size = 1 + _pick(seed, 10, 6);
        items = new IInferenceCoordinator.Fulfilment[](size);
        chosen = new uint256[](size);
        for (uint256 i = 0; i < size; ++i) {
            uint256 dice = _draw(seed, 20 + i);
            chosen[i] = type(uint256).max;
            if (_entries.length > 0 && dice % 16 != 0) {
                chosen[i] = _pending.length > 0 && dice % 16 < 12
                    ? _pending[(dice >> 8) % _pending.length]
                    : (dice >> 8) % _entries.length;
            }
            items[i] = _item(chosen[i], dice);
        }
    }

    function _item(uint256 index, uint256 dice) private view returns (IInferenceCoordinator.Fulfilment memory item) {
        item.requestId = index == type(uint256).max ? bytes32(dice) : _entries[index].id;
        if (dice % 5 == 0) item.failure = IInferenceCoordinator.FailureReason(1 + (dice >> 64) % 6);
        item.resultCid = dice % 7 == 0 ? bytes("bad") : _cid(bytes32(dice));
        item.answer = dice % 11 == 0 ? new bytes(1025) : abi.encode(dice);
    }

    function _bookReport(IInferenceCoordinator.Fulfilment[] memory items, uint256[] memory chosen, address operator)
        private
    {
        for (uint256 i = 0; i < items.length; ++i) {
            uint256 index = chosen[i];
            if (index == type(uint256).max) continue;
            _touched.push(index);
            Entry memory entry = _entries[index];
            if (entry.status != IInferenceCoordinator.Status.Pending) continue;
            if (items[i].failure != IInferenceCoordinator.FailureReason.None) {
                _bookSettled(index, IInferenceCoordinator.Status.Failed);
                _entries[index].failure = items[i].failure;
                _bookGivenBack(entry);
            } else if (
                block.timestamp <= entry.deadline && items[i].resultCid.length == 36 && items[i].answer.length <= 1024
            ) {
                _bookAnswered(index, entry, abi.decode(items[i].answer, (bytes32)), operator);
            }
        }
    }

    function _bookAnswered(uint256 index, Entry memory entry, bytes32 result, address operator) private {
        bool fails = entry.callbackGas != 0 && _failsCallback[entry.requester];
        _bookSettled(
            index, fails ? IInferenceCoordinator.Status.CallbackFailed : IInferenceCoordinator.Status.Fulfilled
        );
        _entries[index].result = result;
        ModelBook storage model = _models[entry.modelId - 1];
        uint256 cut = entry.payment * model.share / 10_000;
        model.earned += cut;
        _purses[model.token].earnings += cut;
        _bookCredit(model.token, operator, entry.payment - cut);
    }

    function retryCallback(uint256 seed) external {
        delete _touched;
        if (_entries.length == 0) return;
        uint256 index = _pick(seed, 1, _entries.length);
        // The next one that can be retried, if there is one.
        for (uint256 i = 0; i < _entries.length; ++i) {
            uint256 candidate = (index + i) % _entries.length;
            if (_entries[candidate].status != IInferenceCoordinator.Status.CallbackFailed) continue;
            index = candidate;
            break;
        }
        Entry memory entry = _entries[index];
        bytes32 result = _pick(seed, 2, 8) == 0 ? bytes32(seed) : entry.result;
        bytes memory expected;
        if (entry.status != IInferenceCoordinator.Status.CallbackFailed) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.NotRetriable.selector, entry.id, entry.status);
        } else if (result != entry.result) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.ResultMismatch.selector, entry.id);
        } else if (_failsCallback[entry.requester]) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.CallbackReverted.selector, entry.id);
        }
        _touched.push(index);
        _do(
            _stranger,
            0,
            abi.encodeCall(
                coordinator.retryCallback, (entry.requester, _termsOf(entry), _cid(result), abi.encode(result))
            ),
            expected
        );
        if (expected.length == 0) _entries[index].status = IInferenceCoordinator.Status.Fulfilled;
    }

    // ------------------------------------------------------------------------------------------------------------
    // Money
    // ------------------------------------------------------------------------------------------------------------

    function deposit(uint256 seed) external {
        delete _touched;
        address token = _tokens[_pick(seed, 1, _tokens.length)];
        address account = _askers[_pick(seed, 2, _askers.length)];
        uint256 amount = _pick(seed, 3, token == _feeToken ? 200 : 1 ether);
        if (_pick(seed, 4, 2) == 0 || token == ETHER) {
            _fund(account, token, amount);
            return;
        }
        (IInferenceCoordinator.Permit memory permit, uint256 allowed) =
            _permitFor(account, token, amount, _draw(seed, 5));
        bytes memory expected = _pullError(token, account, allowed, amount);
        _do(account, 0, abi.encodeCall(coordinator.depositWithPermit, (token, amount, permit)), expected);
        if (expected.length != 0) return;
        _bookIn(token, amount);
        _bookCredit(token, account, amount);
    }

    /// @dev Puts money into a balance, as far as the token lets it.
    function _fund(address account, address token, uint256 amount) private {
        if (token == ETHER) {
            _do(account, amount, abi.encodeCall(coordinator.deposit, ()), "");
        } else {
            _allow(account, token, amount);
            bytes memory expected = _pullError(token, account, amount, amount);
            _do(account, 0, abi.encodeCall(coordinator.depositToken, (token, amount)), expected);
            if (expected.length != 0) return;
        }
        _bookIn(token, amount);
        _bookCredit(token, account, amount);
    }

    function withdraw(uint256 seed) external {
        delete _touched;
        address token = _tokens[_pick(seed, 1, _tokens.length)];
        address account = _accounts[_pick(seed, 2, _accounts.length)];
        uint256 balance = _balances[token][account];
        uint256 amount = _pick(seed, 3, 8) == 0 ? balance + 1 : _pick(seed, 4, balance + 1);
        address to = _receiver(seed);
        bytes memory expected;
        if (to == address(0)) expected = abi.encodeWithSelector(IInferenceCoordinator.ZeroAddress.selector);
        else if (amount > balance) expected = _balanceError(token, account, balance, amount);
        else expected = _sendError(token, to, amount);
        _do(account, 0, abi.encodeCall(coordinator.withdraw, (token, to, amount)), expected);
        if (expected.length != 0) return;
        _bookDebit(token, account, amount);
        _bookSent(token, to, amount);
    }

    function withdrawEarnings(uint256 seed) external {
        delete _touched;
        uint256 modelId = 1 + _pick(seed, 1, _models.length);
        ModelBook storage model = _models[modelId - 1];
        address caller = _pick(seed, 2, 8) == 0 ? _stranger : model.payout;
        address to = _receiver(seed);
        uint256 amount = model.earned;
        bytes memory expected;
        if (to == address(0)) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.ZeroAddress.selector);
        } else if (caller != model.payout) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.NotModelPayout.selector, caller, model.payout);
        } else if (amount == 0) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.NothingEarned.selector, modelId);
        } else {
            expected = _sendError(model.token, to, amount);
        }
        _do(caller, 0, abi.encodeCall(coordinator.withdrawEarnings, (modelId, to)), expected);
        if (expected.length != 0) return;
        model.earned = 0;
        _purses[model.token].earnings -= amount;
        _bookSent(model.token, to, amount);
    }

    /// @dev Mostly a purse; else a consumer, which may not take ether, the coordinator itself, or nobody.
    function _receiver(uint256 seed) private view returns (address) {
        uint256 dice = _pick(seed, 30, 16);
        if (dice == 0) return address(0);
        if (dice == 1) return address(coordinator);
        return dice < 8 ? _askers[dice] : _purse;
    }

    /// @notice Money that nobody asked for is nobody's.
    function forceMoney(uint256 seed) external {
        delete _touched;
        address token = _tokens[_pick(seed, 1, _tokens.length)];
        uint256 amount = _pick(seed, 2, 1 ether);
        if (token == ETHER) {
            vm.deal(address(this), amount);
            new EtherForcer{value: amount}(address(coordinator));
        } else {
            if (token == address(_revertingToken) && _revertingToken.failing()) return;
            // A mint calls nobody in the coordinator, so what this token would try then is no re-entry.
            if (token == address(_reentrantToken)) _reentrantToken.prepare("");
            PlainToken(token).mint(address(coordinator), amount);
        }
        _bookIn(token, amount);
        _purses[token].surplus += amount;
    }

    // ------------------------------------------------------------------------------------------------------------
    // Rule
    // ------------------------------------------------------------------------------------------------------------

    function changeSettings(uint256 seed) external {
        delete _touched;
        uint256 dice = _pick(seed, 1, 6);
        bytes memory data;
        address token = _tokens[_pick(seed, 2, _tokens.length)];
        uint256 value = _draw(seed, 3);
        bytes memory expected = _ownerError(seed);
        address caller = expected.length == 0 ? _owner : _stranger;
        bool paused = coordinator.paused();
        // Pausing is made the rarer: hardly anything can be asked meanwhile.
        if (dice < 2 && !paused && _pick(seed, 4, 6) != 0) return;

        if (dice < 2) {
            data = paused ? abi.encodeCall(coordinator.unpause, ()) : abi.encodeCall(coordinator.pause, ());
        } else if (dice == 2) {
            value = 1000 + value % 8001;
            data = abi.encodeCall(coordinator.setPublisherShare, (value));
        } else if (dice == 3) {
            value = value % 0.1 ether;
            data = abi.encodeCall(coordinator.setPublishingFee, (value));
        } else if (dice == 4) {
            value = token == _feeToken ? 0 : value % 20_000;
            data = abi.encodeCall(coordinator.setCallbackPrice, (token, value));
        } else {
            data = abi.encodeCall(coordinator.transferOwnership, (_nextOwner));
        }
        _do(caller, 0, data, expected);
        if (expected.length != 0) return;
        if (dice == 2) _publisherShare = value;
        else if (dice == 3) _publishingFee = value;
        else if (dice == 4) _callbackPrices[token] = value;
        else if (dice == 5) _handOver();
    }

    function _handOver() private {
        _do(_stranger, 0, abi.encodeCall(coordinator.acceptOwnership, ()), _ownableError());
        _do(_nextOwner, 0, abi.encodeCall(coordinator.acceptOwnership, ()), "");
        (_owner, _nextOwner) = (_nextOwner, _owner);
    }

    function changeOperators(uint256 seed) external {
        delete _touched;
        uint256 dice = _pick(seed, 1, 8);
        bytes memory expected = _ownerError(seed);
        address caller = expected.length == 0 ? _owner : _stranger;
        if (dice < 2) {
            address operator = _candidates[_pick(seed, 2, _candidates.length)];
            // A set that is broken up by removals comes back only with the next proposal.
            if (_pick(seed, 3, 4) != 0) return;
            if (expected.length == 0 && !_isOperator[operator]) expected = _operatorError(operator);
            _do(caller, 0, abi.encodeCall(coordinator.removeOperator, (operator)), expected);
            if (expected.length == 0) _isOperator[operator] = false;
        } else if (dice == 2) {
            if (expected.length == 0 && _proposed == 0) {
                expected = abi.encodeWithSelector(IInferenceCoordinator.NoSuchProposal.selector, bytes32(0));
            }
            _do(caller, 0, abi.encodeCall(coordinator.withdrawProposal, ()), expected);
            if (expected.length == 0) _proposed = 0;
        } else if (dice < 5) {
            uint256 set = 1 + _pick(seed, 2, 7);
            address[] memory operators = _candidatesOf(set);
            uint256 quorum = 1 + _pick(seed, 3, operators.length);
            _do(caller, 0, abi.encodeCall(coordinator.proposeOperators, (operators, quorum)), expected);
            if (expected.length == 0) {
                (_proposed, _proposedQuorum, _effectiveAt) = (set, quorum, block.timestamp + 7 days + 1);
            }
        } else {
            if (_proposed != 0 && dice == 7) vm.warp(_effectiveAt);
            _applyOperators(caller, expected);
        }
    }

    function _applyOperators(address caller, bytes memory expected) private {
        uint256 set = _proposed == 0 ? 3 : _proposed;
        address[] memory operators = _candidatesOf(set);
        if (expected.length == 0 && _proposed == 0) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.NoSuchProposal.selector, bytes32(0));
        } else if (expected.length == 0 && block.timestamp < _effectiveAt) {
            expected = abi.encodeWithSelector(IInferenceCoordinator.ProposalTooEarly.selector, _effectiveAt);
        }
        _do(caller, 0, abi.encodeCall(coordinator.applyOperators, (operators, _proposedQuorum)), expected);
        if (expected.length != 0) return;
        for (uint256 i = 0; i < _candidates.length; ++i) {
            _isOperator[_candidates[i]] = set & (1 << i) != 0;
        }
        (_quorum, _proposed) = (_proposedQuorum, 0);
    }

    function changeModel(uint256 seed) external {
        delete _touched;
        uint256 modelId = 1 + _pick(seed, 1, _models.length);
        ModelBook storage model = _models[modelId - 1];
        address caller = _pick(seed, 2, 8) == 0 ? _stranger : model.publisher;
        bytes memory expected = caller == model.publisher
            ? bytes("")
            : abi.encodeWithSelector(IInferenceCoordinator.NotModelPublisher.selector, caller, model.publisher);
        if (_pick(seed, 3, 3) == 0) {
            bool active = !model.active || _pick(seed, 4, 4) != 0;
            _do(caller, 0, abi.encodeCall(coordinator.setModelActive, (modelId, active)), expected);
            if (expected.length == 0) model.active = active;
        } else {
            uint256 price = _pick(seed, 5, model.token == _feeToken ? 150 : 1_000_000);
            _do(caller, 0, abi.encodeCall(coordinator.setModelPrice, (modelId, price * model.unit)), expected);
            if (expected.length == 0) model.price = price;
        }
    }

    function publish(uint256 seed) external {
        delete _touched;
        if (_models.length == 20) return;
        address publisher = _accounts[_pick(seed, 1, _accounts.length)];
        address token = _tokens[_pick(seed, 2, _tokens.length)];
        _publish(publisher, token, _pick(seed, 3, token == _feeToken ? 150 : 1_000_000), _askers[_pick(seed, 4, 5)]);
    }

    function _publish(address publisher, address token, uint256 price, address payout) private {
        uint256 unit = token == ETHER || token == _noReturnToken || token == address(_dwindlingToken)
            || token == address(_reentrantToken)
            ? 1 gwei
            : 1;
        uint256 fee = publisher == _owner ? 0 : _publishingFee;
        uint256 value = fee + price % 100;
        bytes memory data =
            abi.encodeCall(coordinator.publishModel, (_cid(bytes32(price)), price * unit, token, payout));
        if (fee != 0) {
            _do(
                publisher,
                fee - 1,
                data,
                abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, fee - 1, fee)
            );
        }
        _do(publisher, value, data, "");
        _bookIn(ETHER, value);
        _bookCredit(ETHER, _owner, fee);
        _bookPayOut(publisher, value - fee);
        _models.push(
            ModelBook({
                publisher: publisher,
                payout: payout,
                token: token,
                active: true,
                unit: unit,
                price: price,
                share: _publisherShare,
                earned: 0
            })
        );
    }

    // ------------------------------------------------------------------------------------------------------------
    // Vex
    // ------------------------------------------------------------------------------------------------------------

    /// @notice Consumers and tokens change their ways.
    function turnHostile(uint256 seed) external {
        delete _touched;
        uint256 dice = _pick(seed, 1, 6);
        bool hostile = _pick(seed, 2, 3) == 0;
        if (dice == 0) {
            _revertingConsumer.setCalm(!hostile);
            _failsCallback[address(_revertingConsumer)] = hostile;
        } else if (dice == 1) {
            _falseToken.setFailing(hostile);
        } else if (dice == 2) {
            _revertingToken.setFailing(hostile);
        } else if (dice == 3) {
            uint256 held = _held(address(_dwindlingToken));
            _dwindlingToken.dwindle(address(coordinator), _pick(seed, 3, held + 1));
        } else if (dice == 4) {
            _reentrantToken.prepare(_attack(address(_reentrantToken), seed));
        } else {
            vm.deal(address(_reentrantConsumer), 10 ether);
            uint256 value = _pick(seed, 4, 2) == 0 ? 0 : 1 gwei;
            _reentrantConsumer.prepare(
                value == 0 ? _attack(address(_reentrantConsumer), seed) : abi.encodeCall(coordinator.deposit, ()), value
            );
        }
    }

    /// @dev A call that would go through if the coordinator's door were open.
    function _attack(address attacker, uint256 seed) private view returns (bytes memory) {
        uint256 dice = _pick(seed, 5, 6);
        if (dice == 0) return abi.encodeCall(coordinator.withdraw, (ETHER, attacker, 0));
        if (dice == 1) return abi.encodeCall(coordinator.depositToken, (_tokens[1], 0));
        if (dice == 2) return abi.encodeCall(coordinator.withdrawEarnings, (9, attacker));
        if (dice == 3 || _pending.length == 0) return abi.encodeCall(coordinator.deposit, ());
        Entry memory entry = _entries[_pending[_pick(seed, 6, _pending.length)]];
        if (dice == 4) return abi.encodeCall(coordinator.refund, (entry.id));
        return abi.encodeCall(coordinator.cancel, (_termsOf(entry)));
    }

    function passTime(uint256 seed) external {
        delete _touched;
        uint256 dice = _pick(seed, 1, 16);
        vm.warp(block.timestamp + 1 + _pick(seed, 2, dice == 0 ? 1 days : dice < 6 ? 20 minutes : 20 seconds));
    }

    /// @notice Number of times that a call from within a callback or a transfer got through.
    function breaches() external view returns (uint256) {
        // The strike in the constructor, when nothing was prepared, called nothing.
        return _reentrantConsumer.breaches() + _reentrantToken.breaches();
    }

    // ------------------------------------------------------------------------------------------------------------
    // Probe
    // ------------------------------------------------------------------------------------------------------------

    /// @notice Whatever is pending can be answered up to its deadline, and given back after it, also while paused. Every
    /// trial is undone.
    function probe(uint256 seed) external {
        delete _touched;
        if (_pending.length == 0) return;
        uint256 index = _pending[_pick(seed, 1, _pending.length)];
        Entry memory entry = _entries[index];
        VmState state = VmState(address(vm));

        uint256 snapshot = state.snapshotState();
        _pauseNow();
        // With fewer operators than the quorum nobody can report, and requests go back at their deadlines.
        uint256 signers = _signersInForce();
        if (block.timestamp <= entry.deadline && signers != 0) {
            vm.warp(entry.deadline);
            IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](1);
            items[0].requestId = entry.id;
            items[0].resultCid = _cid(bytes32(seed));
            items[0].answer = abi.encode(seed);
            uint256[] memory chosen = new uint256[](1);
            chosen[0] = index;
            _reportSigned(items, chosen, _candidatesOf(signers)[0], signers, false);
            checkTouched();
            checkMoney();
            checkAccounts();
            _must("not answered", _isAnswered(_entries[index].status));
        }
        _must("snapshot", state.revertToStateAndDelete(snapshot));

        snapshot = state.snapshotState();
        _pauseNow();
        if (block.timestamp <= entry.deadline) vm.warp(uint256(entry.deadline) + 1);
        _refund(index);
        checkTouched();
        checkMoney();
        checkAccounts();
        _must("not refunded", _entries[index].status == IInferenceCoordinator.Status.Refunded);
        _must("snapshot", state.revertToStateAndDelete(snapshot));
    }

    function _pauseNow() private {
        if (!coordinator.paused()) _do(_owner, 0, abi.encodeCall(coordinator.pause, ()), "");
    }

    // ------------------------------------------------------------------------------------------------------------
    // Tools
    // ------------------------------------------------------------------------------------------------------------

    function _allow(address account, address token, uint256 amount) private {
        vm.prank(account);
        (bool success,) = token.call(abi.encodeCall(IERC20.approve, (address(coordinator), amount)));
        _must("approve", success);
    }

    /// @dev A permit that is good where it can be, and the allowance that it leaves.
    function _permitFor(address account, address token, uint256 amount, uint256 dice)
        private
        returns (IInferenceCoordinator.Permit memory permit, uint256 allowed)
    {
        _allow(account, token, 0);
        permit.deadline = block.timestamp;
        bool person = account == _askers[0] || account == _askers[1];
        if (token == _noReturnToken || !person || dice % 8 == 2) return (permit, 0);
        bytes32 message = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                account,
                address(coordinator),
                amount,
                PlainToken(token).nonces(account),
                permit.deadline
            )
        );
        (permit.v, permit.r, permit.s) =
            sign(account, keccak256(abi.encodePacked(hex"1901", PlainToken(token).DOMAIN_SEPARATOR(), message)));
        return (permit, amount);
    }

    /// @dev Candidates of a set of bits, in rising order.
    function _candidatesOf(uint256 set) private view returns (address[] memory chosen) {
        chosen = new address[](_candidates.length);
        uint256 count;
        for (uint256 i = 0; i < _candidates.length; ++i) {
            if (set & (1 << i) != 0) chosen[count++] = _candidates[i];
        }
        assembly ("memory-safe") {
            mstore(chosen, count)
        }
    }

    /// @dev As many operators in force as the quorum asks for, as bits; none when they do not suffice.
    function _signersInForce() private view returns (uint256 set) {
        uint256 count;
        for (uint256 i = 0; i < _candidates.length && count < _quorum; ++i) {
            if (!_isOperator[_candidates[i]]) continue;
            set |= 1 << i;
            ++count;
        }
        if (count < _quorum) return 0;
    }

    function _balanceError(address token, address account, uint256 balance, uint256 amount)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(IInferenceCoordinator.BalanceTooLow.selector, token, account, balance, amount);
    }

    function _operatorError(address account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IInferenceCoordinator.NotOperator.selector, account);
    }

    function _quorumError(uint256 signed) private view returns (bytes memory) {
        return abi.encodeWithSelector(IInferenceCoordinator.QuorumNotMet.selector, signed, _quorum);
    }

    function _ownableError() private view returns (bytes memory) {
        return abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, _stranger);
    }

    /// @dev Now and then it is not the owner who calls.
    function _ownerError(uint256 seed) private view returns (bytes memory) {
        return _pick(seed, 40, 8) == 0 ? _ownableError() : bytes("");
    }

    function _draw(uint256 seed, uint256 use) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, use)));
    }

    function _pick(uint256 seed, uint256 use, uint256 count) private pure returns (uint256) {
        return _draw(seed, use) % count;
    }
}

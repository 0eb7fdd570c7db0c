// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {FalseReturnToken} from "../../../contracts/mocks/FalseReturnToken.sol";
import {RevertingToken} from "../../../contracts/mocks/RevertingToken.sol";
import {ICoordinator} from "../base/Deployer.sol";
import {TestBase} from "../base/Vm.sol";
import {DwindlingToken} from "./DwindlingToken.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @notice A second set of books, kept by other means than the coordinator's: what it holds, owes and has settled, and
/// what every call must do, down to the bytes of its error.
abstract contract Books is TestBase {
    /// @dev What is believed of a request.
    struct Entry {
        bytes32 id;
        bytes32 image;
        bytes32 result;
        address requester;
        uint48 createdAt;
        uint48 deadline;
        uint128 payment;
        uint48 nonce;
        uint32 callbackGas;
        uint16 modelId;
        bool toBalance;
        IInferenceCoordinator.Status status;
        IInferenceCoordinator.FailureReason failure;
    }

    /// @dev What is believed of a model.
    struct ModelBook {
        address publisher;
        address payout;
        address token;
        bool active;
        uint256 unit;
        uint256 price;
        uint256 share;
        uint256 earned;
    }

    /// @dev Money of one token. `surplus` is what came in without being anybody's: forced, or withdrawn to the
    /// coordinator itself.
    struct Purse {
        uint256 paidIn;
        uint256 paidOut;
        uint256 escrow;
        uint256 balances;
        uint256 earnings;
        uint256 surplus;
    }

    address internal constant ETHER = address(0);
    uint256 internal constant CANCEL_WINDOW = 5 minutes;
    /// @dev Enough for a whole report, and little enough that a callee which burns all of it does no harm here.
    uint256 internal constant CALL_GAS = 10_000_000;

    ICoordinator public immutable coordinator;

    Entry[] internal _entries;
    ModelBook[] internal _models;
    address[] internal _tokens;
    address[] internal _accounts;
    uint256[] internal _pending;
    /// @dev Requests that the last call could have changed.
    uint256[] internal _touched;

    mapping(address token => Purse purse) internal _purses;
    mapping(address token => mapping(address account => uint256 amount)) internal _balances;
    mapping(address token => uint256 price) internal _callbackPrices;
    mapping(address account => bool refuses) internal _refusesEther;

    FalseReturnToken internal _falseToken;
    RevertingToken internal _revertingToken;
    address internal _feeToken;
    address internal _noReturnToken;
    DwindlingToken internal _dwindlingToken;

    error Differs(string what, uint256 found, uint256 expected);
    error Wrong(string what);
    error OtherError(bytes found, bytes expected);

    constructor(ICoordinator coordinator_) {
        coordinator = coordinator_;
    }

    // ------------------------------------------------------------------------------------------------------------
    // Compare
    // ------------------------------------------------------------------------------------------------------------

    /// @notice The coordinator holds, for each token, exactly what it owes and what was given to it for nothing, and what
    /// came in less what went out. A token that takes holdings away is left out here, and only here.
    function checkMoney() public view {
        for (uint256 i = 0; i < _tokens.length; ++i) {
            address token = _tokens[i];
            if (token == address(_dwindlingToken)) continue;
            Purse memory purse = _purses[token];
            uint256 held = _held(token);
            _same("held and owed", held, purse.escrow + purse.balances + purse.earnings + purse.surplus);
            _same("paid in and out", held + purse.paidOut, purse.paidIn);
        }
    }

    /// @notice What the coordinator says it owes, account by account and model by model, is what the books say.
    function checkAccounts() public view {
        for (uint256 i = 0; i < _tokens.length; ++i) {
            uint256 owed;
            for (uint256 j = 0; j < _accounts.length; ++j) {
                uint256 balance = coordinator.balanceOf(_tokens[i], _accounts[j]);
                _same("balance", balance, _balances[_tokens[i]][_accounts[j]]);
                owed += balance;
            }
            _same("balances", owed, _purses[_tokens[i]].balances);
        }
        for (uint256 i = 0; i < _models.length; ++i) {
            _same("earnings", coordinator.earningsOf(i + 1), _models[i].earned);
        }
    }

    /// @notice Every request that the last call could have changed stands where the books say.
    function checkTouched() public view {
        for (uint256 i = 0; i < _touched.length; ++i) {
            _checkEntry(_touched[i]);
        }
    }

    /// @notice Every request stands where the books say.
    function checkRequests() external view {
        uint256 pending;
        for (uint256 i = 0; i < _entries.length; ++i) {
            _checkEntry(i);
            if (_entries[i].status == IInferenceCoordinator.Status.Pending) ++pending;
        }
        _same("pending", pending, _pending.length);
        _same("nonce", coordinator.nextNonce(), _entries.length);
        _same("models", coordinator.modelCount(), _models.length);
    }

    function _checkEntry(uint256 index) private view {
        Entry memory entry = _entries[index];
        IInferenceCoordinator.Request memory known = coordinator.requestOf(entry.id);
        bool answered = _isAnswered(entry.status);
        _same("status", uint256(known.status), uint256(entry.status));
        _same("model", known.modelId, entry.modelId);
        _same("requester", uint160(known.requester), answered ? 0 : uint160(entry.requester));
        _same("payment", known.payment, answered ? 0 : entry.payment);
        _same("deadline", known.deadline, answered ? 0 : entry.deadline);
        _same("failure", uint256(known.failure), uint256(entry.failure));
        bool failed = entry.status == IInferenceCoordinator.Status.Failed;
        _same("callback gas", known.callbackGas, failed ? 0 : entry.callbackGas);
        bool verified = coordinator.verifyResult(entry.id, _cid(entry.result), abi.encode(entry.result));
        _must("result", verified == answered);
    }

    function _same(string memory what, uint256 found, uint256 expected) internal pure {
        if (found != expected) revert Differs(what, found, expected);
    }

    function _must(string memory what, bool condition) internal pure {
        if (!condition) revert Wrong(what);
    }

    function _held(address token) internal view returns (uint256) {
        return token == ETHER ? address(coordinator).balance : IERC20(token).balanceOf(address(coordinator));
    }

    function _isAnswered(IInferenceCoordinator.Status status) internal pure returns (bool) {
        return status == IInferenceCoordinator.Status.Fulfilled || status == IInferenceCoordinator.Status.CallbackFailed;
    }

    function _cid(bytes32 digest) internal pure returns (bytes memory) {
        return abi.encodePacked(hex"01551220", digest);
    }

    function _termsOf(Entry memory entry) internal pure returns (IInferenceCoordinator.RequestTerms memory) {
        return IInferenceCoordinator.RequestTerms({
            nonce: entry.nonce,
            modelId: entry.modelId,
            imageCid: _cid(entry.image),
            payment: entry.payment,
            callbackGas: entry.callbackGas,
            deadline: entry.deadline,
            createdAt: entry.createdAt
        });
    }

    // ------------------------------------------------------------------------------------------------------------
    // Call
    // ------------------------------------------------------------------------------------------------------------

    /// @dev A call that must succeed when no error is expected, and otherwise fail with exactly these bytes.
    function _do(address caller, uint256 value, bytes memory data, bytes memory expected)
        internal
        returns (bytes memory result)
    {
        if (value != 0) vm.deal(caller, caller.balance + value);
        bool success;
        vm.prank(caller);
        (success, result) = address(coordinator).call{value: value, gas: CALL_GAS}(data);
        if (expected.length == 0) {
            if (success) return result;
            assembly ("memory-safe") {
                revert(add(result, 0x20), mload(result))
            }
        }
        _must("the call went through", !success);
        if (keccak256(result) != keccak256(expected)) revert OtherError(result, expected);
        if (value != 0) vm.deal(caller, caller.balance - value);
    }

    // ------------------------------------------------------------------------------------------------------------
    // Book
    // ------------------------------------------------------------------------------------------------------------

    function _bookIn(address token, uint256 amount) internal {
        _purses[token].paidIn += amount;
    }

    function _bookCredit(address token, address account, uint256 amount) internal {
        _balances[token][account] += amount;
        _purses[token].balances += amount;
    }

    function _bookDebit(address token, address account, uint256 amount) internal {
        _balances[token][account] -= amount;
        _purses[token].balances -= amount;
    }

    /// @dev Money that left the coordinator, or came round to it as nobody's.
    function _bookSent(address token, address to, uint256 amount) internal {
        if (to != address(coordinator)) {
            _purses[token].paidOut += amount;
            return;
        }
        uint256 fee = token == _feeToken ? amount / 100 : 0;
        _purses[token].paidOut += fee;
        _purses[token].surplus += amount - fee;
    }

    /// @dev Ether that is owed to an account, which takes it or has it in its balance.
    function _bookPayOut(address to, uint256 amount) internal {
        if (_refusesEther[to]) _bookCredit(ETHER, to, amount);
        else _purses[ETHER].paidOut += amount;
    }

    function _bookGivenBack(Entry memory entry) internal {
        if (entry.toBalance) _bookCredit(_models[entry.modelId - 1].token, entry.requester, entry.payment);
        else _bookPayOut(entry.requester, entry.payment);
    }

    /// @dev Takes a request out of escrow, once.
    function _bookSettled(uint256 index, IInferenceCoordinator.Status status) internal {
        Entry storage entry = _entries[index];
        _must("settled twice", entry.status == IInferenceCoordinator.Status.Pending);
        entry.status = status;
        _purses[_models[entry.modelId - 1].token].escrow -= entry.payment;
        for (uint256 i = 0; i < _pending.length; ++i) {
            if (_pending[i] != index) continue;
            _pending[i] = _pending[_pending.length - 1];
            _pending.pop();
            return;
        }
    }

    // ------------------------------------------------------------------------------------------------------------
    // Foresee
    // ------------------------------------------------------------------------------------------------------------

    /// @dev Error of taking tokens from an account, empty when they can be taken.
    function _pullError(address token, address from, uint256 allowed, uint256 amount)
        internal
        view
        returns (bytes memory)
    {
        if (token == address(_falseToken) && _falseToken.failing()) return _safeError(token);
        if (allowed < amount) {
            return token == _noReturnToken
                ? abi.encodeWithSignature(
                    "AllowanceTooLow(address,address,uint256,uint256)", from, address(coordinator), allowed, amount
                )
                : abi.encodeWithSelector(
                    IERC20Errors.ERC20InsufficientAllowance.selector, address(coordinator), allowed, amount
                );
        }
        if (token == address(_revertingToken) && _revertingToken.failing()) return _stoppedError();
        if (token == _feeToken && amount >= 100) {
            return abi.encodeWithSelector(
                IInferenceCoordinator.TokenTransferInexact.selector, token, amount - amount / 100, amount
            );
        }
        return "";
    }

    /// @dev Error of sending money to an account, empty when it can be sent.
    function _sendError(address token, address to, uint256 amount) internal view returns (bytes memory) {
        if (to == address(coordinator)) {
            return abi.encodeWithSelector(IInferenceCoordinator.TransferFailed.selector, to, amount);
        }
        if (token == ETHER) {
            return _refusesEther[to]
                ? abi.encodeWithSelector(IInferenceCoordinator.TransferFailed.selector, to, amount)
                : bytes("");
        }
        if (token == address(_falseToken) && _falseToken.failing()) return _safeError(token);
        if (token == address(_revertingToken) && _revertingToken.failing()) return _stoppedError();
        uint256 held = _held(token);
        if (held >= amount) return "";
        _must("a sound token ran short", token == address(_dwindlingToken));
        return
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, address(coordinator), held, amount);
    }

    function _safeError(address token) private pure returns (bytes memory) {
        return abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, token);
    }

    function _stoppedError() private pure returns (bytes memory) {
        return abi.encodeWithSelector(RevertingToken.TransfersStopped.selector);
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceCoordinator} from "../../../contracts/InferenceCoordinator.sol";
import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "../../../contracts/mocks/AskingMock.sol";
import {EmptyConsumer} from "../../../contracts/mocks/EmptyConsumer.sol";
import {EtherRefuser} from "../../../contracts/mocks/EtherRefuser.sol";
import {GasBurner} from "../../../contracts/mocks/GasBurner.sol";
import {ReentrantConsumer} from "../../../contracts/mocks/ReentrantConsumer.sol";
import {ReturnBomb} from "../../../contracts/mocks/ReturnBomb.sol";
import {RevertingConsumer} from "../../../contracts/mocks/RevertingConsumer.sol";
import {TestBase} from "../base/Vm.sol";

/// @notice Plays everyone at once: people, hostile consumers, operators, the owner, publishers and time. It keeps its
/// own books, and none of its calls may revert.
contract Handler is TestBase {
    InferenceCoordinator public immutable coordinator;
    address private immutable _owner;

    /// @dev What the handler believes of a request.
    struct Entry {
        bytes32 id;
        address requester;
        uint256 payment;
        uint256 deadline;
        IInferenceCoordinator.Status status;
    }

    Entry[] private _entries;
    uint256[] private _pending;
    AskingMock[] public consumers;
    address[] public accounts;
    address[] private _operators;

    uint256 public paidIn;
    uint256 public paidOut;
    uint256 public breaches;

    constructor(InferenceCoordinator coordinator_, address owner_) {
        coordinator = coordinator_;
        _owner = owner_;
        consumers.push(new EmptyConsumer(coordinator_));
        consumers.push(new RevertingConsumer(coordinator_));
        consumers.push(new GasBurner(coordinator_));
        consumers.push(new ReturnBomb(coordinator_));
        consumers.push(new EtherRefuser(coordinator_));
        consumers.push(new ReentrantConsumer(coordinator_));
        for (uint256 i = 0; i < consumers.length; ++i) {
            accounts.push(address(consumers[i]));
        }
        ReentrantConsumer(payable(accounts[5]))
            .prepare(abi.encodeCall(IInferenceCoordinator.withdraw, (accounts[5])), 0);
        for (uint256 i = 0; i < 2; ++i) {
            address operator = makeAccount(i == 0 ? "first operator" : "second operator");
            _operators.push(operator);
            accounts.push(operator);
            address payout = makeAccount(i == 0 ? "first payout" : "second payout");
            accounts.push(payout);
            coordinator_.publishModel(abi.encodePacked(hex"1220", bytes32(i)), (i + 1) * 0.3 ether, payout);
        }
        accounts.push(address(this));
    }

    receive() external payable {}

    function operators() external view returns (address[] memory) {
        return _operators;
    }

    function request(uint256 who, uint256 model, uint256 callbackGas, uint256 time, uint256 excess) external {
        if (coordinator.paused()) return;
        model = bound(model, 1, 2);
        callbackGas = bound(callbackGas, 0, 60_000);
        uint256 deadline = block.timestamp + bound(time, 30 seconds, 2 hours);
        uint256 payment = coordinator.quote(model, callbackGas);
        uint256 value = payment + bound(excess, 0, 0.1 ether);
        vm.deal(address(this), address(this).balance + value);
        bytes memory image = abi.encodePacked(hex"01551220", bytes32(who));

        uint256 before = address(coordinator).balance;
        uint256 index = bound(who, 0, consumers.length);
        address requester = index == consumers.length ? address(this) : accounts[index];
        bytes32 id = requester == address(this)
            ? coordinator.request{value: value}(model, image, callbackGas, deadline)
            : consumers[index].ask{value: value}(model, image, callbackGas, deadline);
        paidIn += value;
        paidOut += before + value - address(coordinator).balance;
        _pending.push(_entries.length);
        _entries.push(Entry(id, requester, payment, deadline, IInferenceCoordinator.Status.Pending));
    }

    function report(uint256 seed, uint256 size) external {
        size = bound(size, 1, 6);
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](size);
        uint256[] memory chosen = new uint256[](size);
        for (uint256 i = 0; i < size; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            chosen[i] = type(uint256).max;
            items[i].requestId = bytes32(seed);
            if (_entries.length > 0 && seed % 16 != 0) {
                // Mostly pending requests, now and then any request at all.
                chosen[i] = _pending.length > 0 && seed % 16 < 12
                    ? _pending[(seed >> 8) % _pending.length]
                    : (seed >> 8) % _entries.length;
                items[i].requestId = _entries[chosen[i]].id;
            }
            items[i].failure = seed % 5 == 0
                ? IInferenceCoordinator.FailureReason.ComputeFailed
                : IInferenceCoordinator.FailureReason.None;
            items[i].resultCid = seed % 7 == 0 ? bytes("bad") : abi.encodePacked(hex"1220", bytes32(seed));
            items[i].answer = abi.encode(seed);
        }
        uint256 before = address(coordinator).balance;
        vm.prank(_operators[seed % 2]);
        coordinator.report(items);
        paidOut += before - address(coordinator).balance;
        for (uint256 i = 0; i < size; ++i) {
            if (chosen[i] != type(uint256).max) _book(chosen[i], items[i]);
        }
    }

    function refund(uint256 seed) external {
        if (_pending.length == 0) return;
        uint256 index = _pending[seed % _pending.length];
        Entry storage entry = _entries[index];
        if (block.timestamp <= entry.deadline) return;
        uint256 before = address(coordinator).balance;
        coordinator.refund(entry.id);
        paidOut += before - address(coordinator).balance;
        _settle(index, IInferenceCoordinator.Status.Refunded);
    }

    function withdraw(uint256 seed) external {
        address account = accounts[seed % accounts.length];
        uint256 credit = coordinator.creditOf(account);
        if (credit == 0) return;
        vm.prank(account);
        coordinator.withdraw(makeAccount("purse"));
        paidOut += credit;
        if (coordinator.creditOf(account) != 0) ++breaches;
    }

    function changeSettings(uint256 seed) external {
        vm.startPrank(_owner);
        if (seed % 4 == 0) coordinator.setPublisherShare(bound(seed >> 8, 1000, 9000));
        else if (seed % 4 == 1) coordinator.setCallbackGasPrice(bound(seed >> 8, 0, 1000) * 1 gwei);
        else if (coordinator.paused()) coordinator.unpause();
        else if (seed % 16 == 2) coordinator.pause();
        vm.stopPrank();
        if (seed % 8 == 0) coordinator.setModelPrice(bound(seed >> 16, 1, 2), bound(seed >> 24, 0, 1 gwei) * 1 gwei);
    }

    function passTime(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 20 minutes));
    }

    function escrow() external view returns (uint256 total) {
        for (uint256 i = 0; i < _pending.length; ++i) {
            total += _entries[_pending[i]].payment;
        }
    }

    function credits() external view returns (uint256 total) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            total += coordinator.creditOf(accounts[i]);
        }
    }

    /// @dev Compares the handler's books with the coordinator's, request by request.
    function differences() external view returns (uint256 count) {
        for (uint256 i = 0; i < _entries.length; ++i) {
            Entry storage entry = _entries[i];
            IInferenceCoordinator.Request memory known = coordinator.requestOf(entry.id);
            IInferenceCoordinator.Status status = known.status == IInferenceCoordinator.Status.CallbackFailed
                ? IInferenceCoordinator.Status.Fulfilled
                : known.status;
            if (status != entry.status) ++count;
            if (
                status == IInferenceCoordinator.Status.Pending
                    && (known.payment != entry.payment || known.requester != entry.requester)
            ) ++count;
        }
        count += breaches + ReentrantConsumer(payable(accounts[5])).breaches();
    }

    function _book(uint256 index, IInferenceCoordinator.Fulfilment memory item) private {
        Entry storage entry = _entries[index];
        if (entry.status != IInferenceCoordinator.Status.Pending) return;
        if (item.failure != IInferenceCoordinator.FailureReason.None) {
            _settle(index, IInferenceCoordinator.Status.Failed);
        } else if (block.timestamp <= entry.deadline && item.resultCid.length == 34) {
            _settle(index, IInferenceCoordinator.Status.Fulfilled);
        }
    }

    function _settle(uint256 index, IInferenceCoordinator.Status status) private {
        _entries[index].status = status;
        for (uint256 i = 0; i < _pending.length; ++i) {
            if (_pending[i] != index) continue;
            _pending[i] = _pending[_pending.length - 1];
            _pending.pop();
            return;
        }
    }
}

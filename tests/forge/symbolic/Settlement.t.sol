// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {SymbolicTest} from "./SymbolicTest.sol";

/// @notice A request is settled once, and its money goes where it must, whenever and whatever is reported.
contract SymbolicSettlement is SymbolicTest {
    function check_SettledByAReportIsSettledOnce(
        uint256 failure,
        uint256 digest,
        uint256 first,
        uint256 second,
        uint8 way
    ) external {
        _warp(first);
        vm.prank(OPERATOR);
        coordinator.report(_items(failure, _cid(digest), ""));
        if (coordinator.requestOf(requestId).status == IInferenceCoordinator.Status.Pending) return;
        vm.assume(second >= first);
        _assertSettledForGood(second, way);
    }

    function check_SettledByARefundIsSettledOnce(uint256 first, uint256 second, uint8 way) external {
        _warp(first);
        if (!_call(STRANGER, abi.encodeCall(coordinator.refund, (requestId)))) return;
        vm.assume(second >= first);
        _assertSettledForGood(second, way);
    }

    function check_SettledByACancelIsSettledOnce(uint256 first, uint256 second, uint8 way) external {
        _warp(first);
        if (!_call(PERSON, abi.encodeCall(coordinator.cancel, (_terms())))) return;
        vm.assume(second >= first);
        _assertSettledForGood(second, way);
    }

    function check_TwiceInOneReportIsOnce(uint256 failure, uint256 digest, uint256 time) external {
        _warp(time);
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](2);
        items[0] = _items(failure, _cid(digest), "")[0];
        items[1] = _items(failure, _cid(digest), "")[0];
        View memory before = _look();
        vm.prank(OPERATOR);
        coordinator.report(items);
        View memory then = _look();
        assert(then.held + then.personEther == before.held + before.personEther);
        assert(then.personEther <= before.personEther + PRICE);
        assert(then.operatorBalance + then.earnings <= PRICE);
    }

    /// @notice An operator gets its share of an answer that is in time and in form, and nothing otherwise.
    function check_AnOperatorEarnsOnlyByAnAnswerInTimeAndForm(
        uint256 failure,
        bytes4 prefix,
        uint256 digest,
        uint256 time
    ) external {
        _warp(time);
        View memory before = _look();
        bytes memory resultCid = abi.encodePacked(prefix, digest);
        vm.prank(OPERATOR);
        coordinator.report(_items(failure, resultCid, ""));
        View memory then = _look();
        if (failure != 0) {
            assert(then.request.status == IInferenceCoordinator.Status.Failed);
            assert(then.operatorBalance == before.operatorBalance && then.earnings == before.earnings);
            assert(then.held + then.personEther == before.held + before.personEther);
            assert(then.personEther + then.personBalance == before.personEther + before.personBalance + PRICE);
        } else if (time <= DEADLINE && (prefix == 0x01551220 || prefix == 0x01701220)) {
            assert(then.request.status == IInferenceCoordinator.Status.Fulfilled);
            assert(then.earnings == PRICE * 3000 / 10_000);
            assert(then.operatorBalance == PRICE - then.earnings);
            assert(then.held == before.held);
        } else {
            _assertUnchanged(before);
        }
    }

    /// @notice The owner changes nothing that is escrow, a balance, earnings or a request that was made.
    function check_TheOwnerTouchesNoMoney(uint8 way, address token, uint256 value) external {
        View memory before = _look();
        if (way == 0) _call(OWNER, abi.encodeCall(coordinator.setCallbackPrice, (token, value)));
        else if (way == 1) _call(OWNER, abi.encodeCall(coordinator.setPublisherShare, (value)));
        else if (way == 2) _call(OWNER, abi.encodeCall(coordinator.setPublishingFee, (value)));
        else if (way == 3) _call(OWNER, abi.encodeCall(coordinator.pause, ()));
        else if (way == 4) _call(OWNER, abi.encodeCall(coordinator.removeOperator, (token)));
        else if (way == 5) _call(OWNER, abi.encodeCall(coordinator.transferOwnership, (token)));
        else if (way == 6) _call(OWNER, abi.encodeCall(coordinator.renounceOwnership, ()));
        else if (way == 7) _call(OWNER, abi.encodeCall(coordinator.refund, (requestId)));
        else if (way == 8) _call(OWNER, abi.encodeCall(coordinator.cancel, (_terms())));
        else _call(OWNER, abi.encodeCall(coordinator.report, (_items(0, _cid(3), ""))));
        _assertUnchanged(before);
    }

    /// @notice A new set of operators changes nothing that is escrow, a balance, earnings or a request that was made.
    function check_ANewSetTouchesNoMoney(address operator, uint256 time) external {
        vm.prank(OPERATOR);
        coordinator.report(_items(0, _cid(3), ""));
        View memory before = _look();
        address[] memory operators = new address[](1);
        operators[0] = operator;
        _call(OWNER, abi.encodeCall(coordinator.proposeOperators, (operators, 1)));
        _warp(time);
        _call(OWNER, abi.encodeCall(coordinator.applyOperators, (operators, 1)));
        _assertUnchanged(before);
    }

    /// @notice While paused, what is pending can be answered in time, and given back after.
    function check_APauseBlocksNoSettlement(uint256 time) external {
        vm.prank(OWNER);
        coordinator.pause();
        _warp(time);
        if (time <= DEADLINE) {
            vm.prank(OPERATOR);
            coordinator.report(_items(0, _cid(3), ""));
            assert(coordinator.requestOf(requestId).status == IInferenceCoordinator.Status.Fulfilled);
        } else {
            coordinator.refund(requestId);
            assert(coordinator.requestOf(requestId).status == IInferenceCoordinator.Status.Refunded);
        }
    }

    function _assertSettledForGood(uint256 time, uint8 way) private {
        vm.warp(time);
        View memory before = _look();
        if (way == 0) _call(STRANGER, abi.encodeCall(coordinator.refund, (requestId)));
        else if (way == 1) _call(PERSON, abi.encodeCall(coordinator.cancel, (_terms())));
        else if (way == 2) _call(OPERATOR, abi.encodeCall(coordinator.report, (_items(0, _cid(4), ""))));
        else _call(OPERATOR, abi.encodeCall(coordinator.report, (_items(1, "", ""))));
        _assertUnchanged(before);
    }
}

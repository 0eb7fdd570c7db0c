// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {SymbolicTest} from "./SymbolicTest.sol";

/// @notice Who may do what, for every caller and every argument.
contract SymbolicAccess is SymbolicTest {
    /// @dev Half the order of secp256k1: of the two signatures that say the same, the one with the lower s counts.
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    function check_OnlyTheOwnerSetsTheCallbackPrice(address caller, address token, uint256 price) external {
        vm.assume(caller != OWNER);
        assert(!_call(caller, abi.encodeCall(coordinator.setCallbackPrice, (token, price))));
    }

    function check_OnlyTheOwnerSetsThePublisherShare(address caller, uint256 share) external {
        vm.assume(caller != OWNER);
        assert(!_call(caller, abi.encodeCall(coordinator.setPublisherShare, (share))));
    }

    function check_OnlyTheOwnerSetsThePublishingFee(address caller, uint256 fee) external {
        vm.assume(caller != OWNER);
        assert(!_call(caller, abi.encodeCall(coordinator.setPublishingFee, (fee))));
    }

    function check_OnlyTheOwnerPauses(address caller) external {
        vm.assume(caller != OWNER);
        assert(!_call(caller, abi.encodeCall(coordinator.pause, ())));
    }

    function check_OnlyTheOwnerUnpauses(address caller) external {
        vm.assume(caller != OWNER);
        vm.prank(OWNER);
        coordinator.pause();
        assert(!_call(caller, abi.encodeCall(coordinator.unpause, ())));
    }

    function check_OnlyTheOwnerProposesOperators(address caller, address operator) external {
        vm.assume(caller != OWNER);
        assert(!_call(caller, abi.encodeCall(coordinator.proposeOperators, (_only(operator), 1))));
    }

    function check_OnlyTheOwnerWithdrawsTheProposal(address caller) external {
        vm.assume(caller != OWNER);
        vm.prank(OWNER);
        coordinator.proposeOperators(_only(STRANGER), 1);
        assert(!_call(caller, abi.encodeCall(coordinator.withdrawProposal, ())));
    }

    function check_OnlyTheOwnerAppliesTheProposal(address caller, uint256 time) external {
        vm.assume(caller != OWNER);
        vm.prank(OWNER);
        coordinator.proposeOperators(_only(STRANGER), 1);
        _warp(time);
        assert(!_call(caller, abi.encodeCall(coordinator.applyOperators, (_only(STRANGER), 1))));
    }

    function check_OnlyTheOwnerRemovesAnOperator(address caller, address operator) external {
        vm.assume(caller != OWNER);
        assert(!_call(caller, abi.encodeCall(coordinator.removeOperator, (operator))));
    }

    function check_OnlyTheOwnerHandsOver(address caller, address successor) external {
        bool named = _call(caller, abi.encodeCall(coordinator.transferOwnership, (successor)));
        assert(named == (caller == OWNER));
        assert(coordinator.owner() == OWNER);
        assert(coordinator.pendingOwner() == (named ? successor : address(0)));
    }

    function check_OnlyTheSuccessorTakesOver(address caller, address successor) external {
        vm.prank(OWNER);
        coordinator.transferOwnership(successor);
        bool taken = _call(caller, abi.encodeCall(coordinator.acceptOwnership, ()));
        assert(taken == (caller == successor));
        assert(coordinator.owner() == (taken ? successor : OWNER));
    }

    function check_NobodyLeavesItWithoutAnOwner(address caller) external {
        assert(!_call(caller, abi.encodeCall(coordinator.renounceOwnership, ())));
        // The zero address is the pending owner while there is none, and nobody can call as it.
        vm.assume(caller != address(0));
        assert(!_call(caller, abi.encodeCall(coordinator.acceptOwnership, ())));
        assert(coordinator.owner() == OWNER);
    }

    function check_NoOperatorSetIsInForceBeforeItsDelay(address operator, uint256 time) external {
        vm.assume(operator != address(0));
        vm.prank(OWNER);
        coordinator.proposeOperators(_only(operator), 1);
        _warp(time);
        bool applied = _call(OWNER, abi.encodeCall(coordinator.applyOperators, (_only(operator), 1)));
        assert(applied == (time >= NOW + 7 days + 1));
        assert(coordinator.isOperator(OPERATOR) == (!applied || operator == OPERATOR));
    }

    function check_OnlyThePublisherReprices(address caller, uint256 modelId, uint256 price) external {
        vm.assume(caller != PUBLISHER);
        assert(!_call(caller, abi.encodeCall(coordinator.setModelPrice, (modelId, price))));
    }

    function check_OnlyThePublisherRetires(address caller, uint256 modelId, bool active) external {
        vm.assume(caller != PUBLISHER);
        assert(!_call(caller, abi.encodeCall(coordinator.setModelActive, (modelId, active))));
    }

    function check_OnlyThePayoutAccountTakesEarnings(address caller, uint256 modelId, address to) external {
        vm.prank(OPERATOR);
        coordinator.report(_items(0, _cid(3), ""));
        vm.assume(caller != PAYOUT);
        assert(!_call(caller, abi.encodeCall(coordinator.withdrawEarnings, (modelId, to))));
    }

    function check_OnlyAnOperatorReports(address caller, uint256 failure, uint256 digest, uint256 time) external {
        vm.assume(caller != OPERATOR);
        _warp(time);
        assert(!_call(caller, abi.encodeCall(coordinator.report, (_items(failure, _cid(digest), "")))));
    }

    function check_NobodySignsForAnOperator(address operator, bytes32 r, bytes32 vs) external {
        vm.assume(operator != OPERATOR);
        IInferenceCoordinator.Signature[] memory signatures = new IInferenceCoordinator.Signature[](1);
        signatures[0] = IInferenceCoordinator.Signature(r, vs);
        bytes memory items = abi.encode(_items(0, _cid(3), ""));
        assert(!_call(STRANGER, abi.encodeCall(coordinator.reportSigned, (items, operator, signatures))));
    }

    function check_OnlyAnOperatorSigns(bytes32 r, bytes32 vs) external {
        IInferenceCoordinator.Signature[] memory signatures = new IInferenceCoordinator.Signature[](1);
        signatures[0] = IInferenceCoordinator.Signature(r, vs);
        bytes memory items = abi.encode(_items(0, _cid(3), ""));
        uint256 s = uint256(vs) & (type(uint256).max >> 1);
        uint8 v = uint8(27 + (uint256(vs) >> 255));
        address signer = ecrecover(coordinator.reportDigest(items, OPERATOR), v, r, bytes32(s));
        bool reported = _call(STRANGER, abi.encodeCall(coordinator.reportSigned, (items, OPERATOR, signatures)));
        assert(reported == (signer == OPERATOR && s <= HALF_ORDER));
    }

    function check_OnlyTheRequesterCancels(
        address caller,
        uint256 nonce,
        uint256 payment,
        uint256 createdAt,
        uint256 time
    ) external {
        vm.assume(caller != PERSON);
        View memory before = _look();
        _cancelled(caller, nonce, payment, createdAt, time);
        _assertUnchanged(before);
    }

    function check_CancelOnlyInItsWindowAndOnItsTerms(uint256 nonce, uint256 payment, uint256 createdAt, uint256 time)
        external
    {
        if (!_cancelled(PERSON, nonce, payment, createdAt, time)) return;
        assert(nonce == 0 && payment == PRICE && createdAt == NOW && time < NOW + CANCEL_WINDOW);
    }

    function check_RefundOnlyAfterTheDeadline(address caller, uint256 time) external {
        _warp(time);
        View memory before = _look();
        if (_call(caller, abi.encodeCall(coordinator.refund, (requestId)))) assert(time > DEADLINE);
        else _assertUnchanged(before);
    }

    function check_OnlyOnesOwnBalanceIsTaken(address caller, uint256 deposited, uint256 amount) external {
        vm.deal(PERSON, deposited);
        vm.prank(PERSON);
        coordinator.deposit{value: deposited}();
        uint256 held = address(coordinator).balance;
        vm.assume(caller != PERSON);
        uint256 own = coordinator.balanceOf(ETHER, caller);
        bool success = _call(caller, abi.encodeCall(coordinator.withdraw, (ETHER, STRANGER, amount)));
        assert(coordinator.balanceOf(ETHER, PERSON) == deposited);
        if (success) assert(amount <= own && address(coordinator).balance == held - amount);
        else assert(address(coordinator).balance == held);
    }

    function _cancelled(address caller, uint256 nonce, uint256 payment, uint256 createdAt, uint256 time)
        private
        returns (bool)
    {
        _warp(time);
        IInferenceCoordinator.RequestTerms memory terms = _terms();
        (terms.nonce, terms.payment, terms.createdAt) = (nonce, payment, createdAt);
        // Two ids are the same only when all they commit to is: keccak256 has no collisions, which a solver cannot know.
        bool same = caller == PERSON && nonce == 0 && payment == PRICE && createdAt == NOW;
        vm.assume((coordinator.requestIdOf(caller, terms) == requestId) == same);
        return _call(caller, abi.encodeCall(coordinator.cancel, (terms)));
    }

    function _only(address operator) private pure returns (address[] memory operators) {
        operators = new address[](1);
        operators[0] = operator;
    }
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {CoordinatorSettings} from "./CoordinatorSettings.sol";
import {Ledger} from "./Ledger.sol";
import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title OperatorSet
/// @notice The part of the coordinator that knows who may report: n operators, of whom k must sign.
/// @dev The owner proposes a set, everybody sees it, and seven days and a second later it can be put in force. Every
/// deadline is nearer than that, so no request is answered by operators who were not known, or announced, when it was
/// made.
abstract contract OperatorSet is CoordinatorSettings, Ledger, EIP712 {
    /// @dev Most operators in a set.
    uint256 private constant MAX_OPERATORS = 16;
    /// @dev Time, in seconds, between the proposal of a set and the moment it can be put in force.
    uint256 private constant OPERATOR_DELAY = 7 days + 1;

    // solhint-disable-next-line gas-small-strings
    bytes32 private constant REPORT_TYPEHASH = keccak256("Report(address operator,bytes items)");

    address[] private _operators;
    uint8 private _quorum;
    uint64 private _proposalEffectiveAt;
    bytes32 private _proposalHash;

    /// @param owner_ First owner.
    /// @param operators_ First operators, in rising order.
    /// @param quorum_ How many of them must sign a report.
    constructor(address owner_, address[] memory operators_, uint256 quorum_)
        Ownable(owner_)
        EIP712("Sibyl InferenceCoordinator", "1")
    {
        _checkSet(operators_, quorum_);
        _install(operators_, quorum_);
    }

    /// @inheritdoc IInferenceCoordinator
    function proposeOperators(address[] calldata newOperators, uint256 newQuorum) external onlyOwner {
        _checkSet(newOperators, newQuorum);
        uint256 effectiveAt = block.timestamp + OPERATOR_DELAY;
        // Fits: seconds since 1970
        _proposalEffectiveAt = uint64(effectiveAt);
        _proposalHash = keccak256(abi.encode(newOperators, newQuorum));
        emit OperatorsProposed(newOperators, newQuorum, effectiveAt);
    }

    /// @inheritdoc IInferenceCoordinator
    function withdrawProposal() external onlyOwner {
        if (_proposalHash == bytes32(0)) revert NoSuchProposal(_proposalHash);
        delete _proposalHash;
        delete _proposalEffectiveAt;
        emit OperatorsProposalWithdrawn();
    }

    /// @inheritdoc IInferenceCoordinator
    function applyOperators(address[] calldata newOperators, uint256 newQuorum) external onlyOwner {
        if (keccak256(abi.encode(newOperators, newQuorum)) != _proposalHash) revert NoSuchProposal(_proposalHash);
        if (block.timestamp < _proposalEffectiveAt) revert ProposalTooEarly(_proposalEffectiveAt);
        delete _proposalHash;
        delete _proposalEffectiveAt;
        for (uint256 i = 0; i < _operators.length; ++i) {
            _accounts[_operators[i]].quorum = 0;
        }
        _install(newOperators, newQuorum);
    }

    /// @inheritdoc IInferenceCoordinator
    function removeOperator(address operator) external onlyOwner {
        _checkOperator(operator);
        _accounts[operator].quorum = 0;
        uint256 last = _operators.length - 1;
        for (uint256 i = 0; i < last; ++i) {
            // The set stays in rising order, as `operators` promises.
            if (_operators[i] >= operator) _operators[i] = _operators[i + 1];
        }
        _operators.pop();
        emit OperatorRemoved(operator);
    }

    /// @inheritdoc IInferenceCoordinator
    function operators() external view returns (address[] memory) {
        return _operators;
    }

    /// @inheritdoc IInferenceCoordinator
    function quorum() external view returns (uint256) {
        return _quorum;
    }

    /// @inheritdoc IInferenceCoordinator
    function proposal() external view returns (bytes32 proposalHash, uint256 effectiveAt) {
        return (_proposalHash, _proposalEffectiveAt);
    }

    /// @inheritdoc IInferenceCoordinator
    function isOperator(address account) external view returns (bool) {
        return _accounts[account].quorum != 0;
    }

    /// @inheritdoc IInferenceCoordinator
    function reportDigest(bytes calldata items, address operator) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(REPORT_TYPEHASH, operator, keccak256(items))));
    }

    /// @dev Reverts unless one operator may report alone and this account is one.
    function _checkAlone(address operator) internal view {
        _checkQuorum(_checkOperator(operator), 1);
    }

    /// @dev Reverts unless `operator` is one, and enough operators signed these items for it.
    function _checkSignatures(bytes calldata items, address operator, Signature[] calldata signatures) internal view {
        _checkQuorum(_checkOperator(operator), signatures.length);
        bytes32 digest = reportDigest(items, operator);
        address previous;
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = ECDSA.recover(digest, signatures[i].r, signatures[i].vs);
            _checkOperator(signer);
            // Rising order, so that nobody is counted twice.
            if (signer <= previous) revert SignersNotRising(previous, signer);
            previous = signer;
        }
    }

    /// @dev Writes a set that was found good.
    function _install(address[] memory newOperators, uint256 newQuorum) private {
        _operators = newOperators;
        // Fits: at most MAX_OPERATORS
        _quorum = uint8(newQuorum);
        for (uint256 i = 0; i < newOperators.length; ++i) {
            _accounts[newOperators[i]].quorum = uint8(newQuorum);
        }
        emit OperatorsSet(newOperators, newQuorum);
    }

    /// @dev The quorum that an operator carries, or `NotOperator`.
    function _checkOperator(address account) private view returns (uint256 carried) {
        carried = _accounts[account].quorum;
        if (carried == 0) revert NotOperator(account);
    }

    /// @dev Reverts unless exactly as many signed as must.
    function _checkQuorum(uint256 required, uint256 signed) private pure {
        if (signed != required) revert QuorumNotMet(signed, required);
    }

    /// @dev Reverts unless a set is in rising order and not too large, and 0 < quorum <= its size.
    function _checkSet(address[] memory newOperators, uint256 newQuorum) private pure {
        uint256 count = newOperators.length;
        if (count > MAX_OPERATORS || newQuorum == 0 || newQuorum > count) {
            revert OperatorSetOutOfRange(count, newQuorum, MAX_OPERATORS);
        }
        address previous;
        for (uint256 i = 0; i < count; ++i) {
            if (newOperators[i] <= previous) revert OperatorsNotRising(previous, newOperators[i]);
            previous = newOperators[i];
        }
    }
}

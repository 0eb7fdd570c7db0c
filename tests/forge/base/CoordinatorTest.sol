// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "../../../contracts/mocks/AskingMock.sol";
import {Deployer, ICoordinator} from "./Deployer.sol";

/// @notice A coordinator with one model, one operator and one person with ether.
abstract contract CoordinatorTest is Deployer {
    uint256 internal constant PRICE = 0.001 ether;
    uint256 internal constant NOW = 1_900_000_000;
    uint256 internal constant CANCEL_WINDOW = 60;
    /// @dev The address that stands for ether where a token is named.
    address internal constant ETHER = address(0);

    address internal owner = makeAccount("owner");
    address internal operator = makeAccount("operator");
    address internal publisher = makeAccount("publisher");
    address internal payout = makeAccount("payout");
    address internal person = makeAccount("person");
    address internal stranger = makeAccount("stranger");

    ICoordinator internal coordinator;
    uint256 internal modelId;

    function setUp() public virtual {
        vm.warp(NOW);
        coordinator = deployCoordinator(owner, only(operator), 1, CANCEL_WINDOW);
        vm.label(address(coordinator), "coordinator");
        modelId = publish(PRICE, ETHER);
        vm.deal(person, 1000 ether);
    }

    /// @dev Publishes a model; the fee is taken out again, so that only the test's own money is left.
    function publish(uint256 price, address token) internal returns (uint256 published) {
        uint256 fee = coordinator.publishingFee();
        vm.deal(publisher, publisher.balance + fee);
        vm.prank(publisher);
        published = coordinator.publishModel{value: fee}(cid("manifest"), price, token, payout);
        vm.prank(owner);
        coordinator.withdraw(ETHER, owner, fee);
    }

    /// @dev A list of one account.
    function only(address account) internal pure returns (address[] memory accounts) {
        accounts = new address[](1);
        accounts[0] = account;
    }

    /// @dev Accounts in rising order.
    function rising(address[] memory accounts) internal pure returns (address[] memory) {
        for (uint256 i = 1; i < accounts.length; ++i) {
            for (uint256 j = i; j > 0 && accounts[j] < accounts[j - 1]; --j) {
                (accounts[j], accounts[j - 1]) = (accounts[j - 1], accounts[j]);
            }
        }
        return accounts;
    }

    function balanceOf(address account) internal view returns (uint256) {
        return coordinator.balanceOf(ETHER, account);
    }

    /// @dev A CID of version 1, codec raw. Only its form counts here, and sha256 would be a call that eats a prank.
    function cid(string memory content) internal pure returns (bytes memory) {
        return abi.encodePacked(hex"01551220", keccak256(bytes(content)));
    }

    /// @dev The answer "class `classIndex`, `bps` basis points".
    function answerOf(uint16 classIndex, uint16 bps) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(1), uint8(1), uint8(1), uint8(0), classIndex, bps, bytes24(0));
    }

    function ask() internal returns (bytes32) {
        return askWith(0);
    }

    function askWith(uint256 callbackGas) internal returns (bytes32) {
        uint256 payment = coordinator.quote(modelId, callbackGas);
        vm.prank(person);
        return coordinator.request{value: payment}(modelId, cid("picture"), callbackGas, block.timestamp + 1 hours);
    }

    function askFrom(AskingMock consumer, uint256 callbackGas) internal returns (bytes32) {
        uint256 payment = coordinator.quote(modelId, callbackGas);
        vm.prank(person);
        return consumer.ask{value: payment}(modelId, cid("picture"), callbackGas, block.timestamp + 1 hours);
    }

    /// @dev Terms of a request that `askWith` or `askFrom` made in this block at the present price.
    function termsOf(uint256 nonce, uint256 callbackGas)
        internal
        view
        returns (IInferenceCoordinator.RequestTerms memory)
    {
        return IInferenceCoordinator.RequestTerms({
            nonce: nonce,
            modelId: modelId,
            imageCid: cid("picture"),
            payment: coordinator.quote(modelId, callbackGas),
            callbackGas: callbackGas,
            deadline: block.timestamp + 1 hours,
            createdAt: block.timestamp
        });
    }

    function success(bytes32 requestId) internal pure returns (IInferenceCoordinator.Fulfilment memory) {
        return IInferenceCoordinator.Fulfilment({
            requestId: requestId,
            failure: IInferenceCoordinator.FailureReason.None,
            resultCid: cid("result"),
            answer: answerOf(7, 9876)
        });
    }

    function failure(bytes32 requestId) internal pure returns (IInferenceCoordinator.Fulfilment memory) {
        return IInferenceCoordinator.Fulfilment({
            requestId: requestId,
            failure: IInferenceCoordinator.FailureReason.ImageUnreadable,
            resultCid: "",
            answer: ""
        });
    }

    function one(IInferenceCoordinator.Fulfilment memory item)
        internal
        pure
        returns (IInferenceCoordinator.Fulfilment[] memory items)
    {
        items = new IInferenceCoordinator.Fulfilment[](1);
        items[0] = item;
    }

    function reportOne(IInferenceCoordinator.Fulfilment memory item) internal {
        vm.prank(operator);
        coordinator.report(one(item));
    }

    /// @dev Compact signatures of these accounts, in their order.
    function signaturesOf(address[] memory signers, bytes32 digest)
        internal
        view
        returns (IInferenceCoordinator.Signature[] memory signatures)
    {
        signatures = new IInferenceCoordinator.Signature[](signers.length);
        for (uint256 i = 0; i < signers.length; ++i) {
            (uint8 v, bytes32 r, bytes32 s) = sign(signers[i], digest);
            signatures[i] = IInferenceCoordinator.Signature({r: r, vs: s | bytes32(uint256(v - 27) << 255)});
        }
    }

    function assertStatus(bytes32 requestId, IInferenceCoordinator.Status expected) internal view {
        vm.assertEq(uint256(coordinator.requestOf(requestId).status), uint256(expected), "status");
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {ReentrantConsumer} from "../../contracts/mocks/ReentrantConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {ICoordinator} from "./base/Deployer.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

contract ReportSignedTest is CoordinatorTest {
    uint256 private constant QUORUM = 3;

    address[] private crowd;

    function setUp() public override {
        super.setUp();
        string[5] memory names = ["first", "second", "third", "fourth", "fifth"];
        for (uint256 i = 0; i < names.length; ++i) {
            crowd.push(makeAccount(names[i]));
        }
        crowd = rising(crowd);
        coordinator = deploy();
        modelId = publish(PRICE, ETHER);
    }

    function testFuzz_AnyQuorumOfThemSettles_SentByAnybody(uint8 left, uint8 right, address sender) external {
        vm.assume(sender != address(0));
        // Two different ones stay out.
        uint256 first = bound(left, 0, 4);
        uint256 second = (first + 1 + bound(right, 0, 3)) % 5;
        address[] memory signers = new address[](QUORUM);
        uint256 next = 0;
        for (uint256 i = 0; i < crowd.length; ++i) {
            if (i != first && i != second) signers[next++] = crowd[i];
        }
        bytes32 requestId = ask();
        IInferenceCoordinator.Fulfilment[] memory items = one(success(requestId));
        IInferenceCoordinator.Signature[] memory signatures =
            signaturesOf(signers, coordinator.reportDigest(abi.encode(items), crowd[0]));
        vm.prank(sender);
        coordinator.reportSigned(abi.encode(items), crowd[0], signatures);
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.assertTrue(coordinator.verifyResult(requestId, cid("result"), answerOf(7, 9876)));
        vm.assertEq(balanceOf(crowd[0]), PRICE * 7 / 10);
        vm.assertEq(coordinator.earningsOf(modelId), PRICE * 3 / 10);
    }

    function test_ManyItemsOfEveryKindAreSettledAsInAReport() external {
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](4);
        items[0] = success(ask());
        items[1] = failure(ask());
        items[2] = success(keccak256("never"));
        items[3] = success(ask());
        uint256 before = person.balance;
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.FulfilmentSkipped(items[2].requestId, IInferenceCoordinator.Status.Unknown);
        send(items, crowd[1], firstSigners(QUORUM));
        assertStatus(items[0].requestId, IInferenceCoordinator.Status.Fulfilled);
        assertStatus(items[1].requestId, IInferenceCoordinator.Status.Failed);
        assertStatus(items[3].requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.assertEq(person.balance - before, PRICE);
        vm.assertEq(balanceOf(crowd[1]), 2 * PRICE * 7 / 10);
    }

    function test_TheDigestIsTypedData() external view {
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](2);
        items[0] = success(keccak256("one"));
        items[1] = failure(keccak256("two"));
        vm.assertEq(
            coordinator.reportDigest(abi.encode(items), crowd[2]),
            digestOf(items, crowd[2], block.chainid, address(coordinator))
        );
        (, string memory name, string memory version, uint256 chainId, address verifier,,) = coordinator.eip712Domain();
        vm.assertEq(bytes(name), bytes("Sibyl InferenceCoordinator"));
        vm.assertEq(bytes(version), bytes("1"));
        vm.assertEq(chainId, block.chainid);
        vm.assertEq(verifier, address(coordinator));
    }

    function testFuzz_TheDigestCommitsToEveryPart(
        bytes32 requestId,
        uint8 reason,
        bytes memory resultCid,
        bytes memory answer,
        address payee
    ) external view {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(requestId));
        items[0].failure = IInferenceCoordinator.FailureReason(bound(reason, 0, 6));
        items[0].resultCid = resultCid;
        items[0].answer = answer;
        bytes32 digest = coordinator.reportDigest(abi.encode(items), payee);
        vm.assertEq(digest, digestOf(items, payee, block.chainid, address(coordinator)));
        items[0].requestId = ~requestId;
        vm.assertNotEq(digest, coordinator.reportDigest(abi.encode(items), payee));
        items[0].requestId = requestId;
        items[0].failure = IInferenceCoordinator.FailureReason((bound(reason, 0, 6) + 1) % 7);
        vm.assertNotEq(digest, coordinator.reportDigest(abi.encode(items), payee));
        items[0].failure = IInferenceCoordinator.FailureReason(bound(reason, 0, 6));
        items[0].resultCid = abi.encodePacked(resultCid, hex"00");
        vm.assertNotEq(digest, coordinator.reportDigest(abi.encode(items), payee));
        items[0].resultCid = resultCid;
        items[0].answer = abi.encodePacked(answer, hex"00");
        vm.assertNotEq(digest, coordinator.reportDigest(abi.encode(items), payee));
        items[0].answer = answer;
        vm.assertNotEq(digest, coordinator.reportDigest(abi.encode(items), address(~uint160(payee))));
        vm.assertEq(digest, coordinator.reportDigest(abi.encode(items), payee));
    }

    function test_GivenTooFewOrTooMany_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        for (uint256 count = 0; count <= crowd.length; ++count) {
            if (count == QUORUM) continue;
            expectRefusal(
                items,
                crowd[0],
                firstSigners(count),
                abi.encodeWithSelector(IInferenceCoordinator.QuorumNotMet.selector, count, QUORUM)
            );
        }
    }

    function test_GivenTheWrongOrderOrOneTwice_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        address[] memory signers = firstSigners(QUORUM);
        (signers[1], signers[2]) = (signers[2], signers[1]);
        expectRefusal(items, crowd[0], signers, notRising(signers[1], signers[2]));
        signers = firstSigners(QUORUM);
        signers[2] = signers[1];
        expectRefusal(items, crowd[0], signers, notRising(signers[1], signers[1]));
        signers = firstSigners(QUORUM);
        signers[1] = signers[0];
        expectRefusal(items, crowd[0], signers, notRising(signers[0], signers[0]));
    }

    function test_GivenAnotherSigner_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        for (uint256 i = 0; i < QUORUM; ++i) {
            address[] memory signers = firstSigners(QUORUM);
            signers[i] = stranger;
            expectRefusal(items, crowd[0], signers, notOperator(stranger));
        }
    }

    function test_GivenARemovedSigner_ItReverts_AndTheQuorumStays() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        vm.prank(owner);
        coordinator.removeOperator(crowd[0]);
        expectRefusal(items, crowd[1], firstSigners(QUORUM), notOperator(crowd[0]));
        address[] memory others = new address[](QUORUM);
        (others[0], others[1], others[2]) = (crowd[2], crowd[3], crowd[4]);
        send(items, crowd[2], others);
        assertStatus(items[0].requestId, IInferenceCoordinator.Status.Fulfilled);

        items = one(success(ask()));
        vm.startPrank(owner);
        coordinator.removeOperator(crowd[1]);
        coordinator.removeOperator(crowd[2]);
        vm.stopPrank();
        address[] memory rest = new address[](2);
        (rest[0], rest[1]) = (crowd[3], crowd[4]);
        expectRefusal(
            items, crowd[3], rest, abi.encodeWithSelector(IInferenceCoordinator.QuorumNotMet.selector, 2, QUORUM)
        );
    }

    function test_GivenAPayeeThatIsNoOperator_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        expectRefusal(items, stranger, firstSigners(QUORUM), notOperator(stranger));
        expectRefusal(items, address(0), firstSigners(QUORUM), notOperator(address(0)));
    }

    function test_GivenAnotherPayeeThanWasSigned_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        expectForeign(items, crowd[4], coordinator.reportDigest(abi.encode(items), crowd[0]));
    }

    function test_GivenOtherItemsThanWereSigned_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        bytes32 digest = coordinator.reportDigest(abi.encode(items), crowd[0]);
        items[0].answer = answerOf(8, 9876);
        expectForeign(items, crowd[0], digest);
    }

    function test_GivenADigestOfAnotherChainOrCoordinator_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        expectForeign(items, crowd[0], digestOf(items, crowd[0], block.chainid + 1, address(coordinator)));
        ICoordinator other = deploy();
        expectForeign(items, crowd[0], other.reportDigest(abi.encode(items), crowd[0]));
        // The chain split after the deployment.
        bytes32 here = coordinator.reportDigest(abi.encode(items), crowd[0]);
        vm.chainId(block.chainid + 1);
        expectForeign(items, crowd[0], here);
    }

    function test_GivenAMalleableOrBrokenSignature_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        bytes32 digest = coordinator.reportDigest(abi.encode(items), crowd[0]);
        // One above half the order of the curve.
        bytes32 high = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1;
        for (uint256 i = 0; i < QUORUM; ++i) {
            IInferenceCoordinator.Signature[] memory signatures = signaturesOf(firstSigners(QUORUM), digest);
            signatures[i].vs = high;
            vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, high));
            coordinator.reportSigned(abi.encode(items), crowd[0], signatures);
            signatures[i].vs = high | bytes32(uint256(1) << 255);
            vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, high));
            coordinator.reportSigned(abi.encode(items), crowd[0], signatures);
            signatures[i] = IInferenceCoordinator.Signature({r: bytes32(0), vs: bytes32(0)});
            vm.expectRevert(ECDSA.ECDSAInvalidSignature.selector);
            coordinator.reportSigned(abi.encode(items), crowd[0], signatures);
        }
    }

    function test_GivenItIsSentTwice_TheSecondChangesNothing() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        ask();
        send(items, crowd[0], firstSigners(QUORUM));
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.FulfilmentSkipped(items[0].requestId, IInferenceCoordinator.Status.Fulfilled);
        send(items, crowd[0], firstSigners(QUORUM));
        vm.assertEq(balanceOf(crowd[0]), PRICE * 7 / 10);
        vm.assertEq(address(coordinator).balance, 2 * PRICE);
    }

    function test_GivenNoItems_ItReverts() external {
        expectRefusal(
            new IInferenceCoordinator.Fulfilment[](0),
            crowd[0],
            firstSigners(QUORUM),
            abi.encodeWithSelector(IInferenceCoordinator.EmptyReport.selector)
        );
    }

    function test_GivenSignedBytesThatAreNoArray_ItReverts() external {
        bytes memory whole = abi.encode(one(success(ask())));
        bytes[4] memory malformed = [
            bytes(""), new bytes(63), abi.encode(uint256(64), uint256(0), uint256(1)), abi.encodePacked(hex"01", whole)
        ];
        for (uint256 i = 0; i < malformed.length; ++i) {
            expectMalformed(malformed[i]);
        }
    }

    function test_GivenAnotherEncodingOfTheItems_ItReverts() external {
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](2);
        items[0] = success(ask());
        items[1] = success(ask());
        bytes memory whole = abi.encode(items);
        // The words that lay the array out: its own offset and length, the items' offsets, and in each item the
        // offsets and lengths of CID and answer.
        uint8[12] memory places = [0, 1, 2, 3, 6, 7, 8, 11, 15, 16, 17, 20];
        for (uint256 i = 0; i < places.length; ++i) {
            expectMalformed(altered(whole, places[i], 32));
            expectMalformed(altered(whole, places[i], 2 ** 32));
            expectMalformed(altered(whole, places[i], 2 ** 255));
        }
        expectMalformed(abi.encodePacked(whole, bytes32(0)));
        // As it was, it is taken.
        send(items, crowd[0], firstSigners(QUORUM));
        assertStatus(items[1].requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_GivenItemsThatLieOutsideTheSignedBytes_ItReverts() external {
        bytes memory item = abi.encode(one(success(ask())));
        bytes[2] memory blobs = [abi.encode(uint256(32), uint256(1)), abi.encode(uint256(32), uint256(1), uint256(128))];
        for (uint256 i = 0; i < blobs.length; ++i) {
            IInferenceCoordinator.Signature[] memory signatures =
                signaturesOf(firstSigners(QUORUM), coordinator.reportDigest(blobs[i], crowd[0]));
            bytes memory data =
                abi.encodePacked(abi.encodeCall(coordinator.reportSigned, (blobs[i], crowd[0], signatures)), item);
            (bool success_,) = address(coordinator).call(data);
            vm.assertFalse(success_);
        }
    }

    function test_GivenPaused_ItSettles() external {
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        vm.prank(owner);
        coordinator.pause();
        send(items, crowd[0], firstSigners(QUORUM));
        assertStatus(items[0].requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_GivenAQuorumOfOne_OneSignatureIsEnough() external {
        coordinator = deployCoordinator(owner, crowd, 1, CANCEL_WINDOW);
        modelId = publish(PRICE, ETHER);
        IInferenceCoordinator.Fulfilment[] memory items = one(success(ask()));
        // The payee need not sign.
        send(items, crowd[3], only(crowd[1]));
        vm.assertEq(balanceOf(crowd[3]), PRICE * 7 / 10);
        items = one(success(ask()));
        vm.prank(crowd[1]);
        coordinator.report(items);
        vm.assertEq(balanceOf(crowd[1]), PRICE * 7 / 10);
    }

    function test_GivenACallback_ItsReentryGoesNowhere() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        IInferenceCoordinator.Fulfilment[] memory inner = one(success(ask()));
        consumer.prepare(
            abi.encodeCall(
                IInferenceCoordinator.reportSigned,
                (
                    abi.encode(inner),
                    crowd[0],
                    signaturesOf(firstSigners(QUORUM), coordinator.reportDigest(abi.encode(inner), crowd[0]))
                )
            ),
            0
        );
        send(one(success(askFrom(consumer, 300_000))), crowd[0], firstSigners(QUORUM));
        vm.assertEq(consumer.tries(), 1);
        vm.assertEq(consumer.breaches(), 0);
        assertStatus(inner[0].requestId, IInferenceCoordinator.Status.Pending);
    }

    function deploy() private returns (ICoordinator) {
        return deployCoordinator(owner, crowd, QUORUM, CANCEL_WINDOW);
    }

    function firstSigners(uint256 count) private view returns (address[] memory signers) {
        signers = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            signers[i] = crowd[i];
        }
    }

    function send(IInferenceCoordinator.Fulfilment[] memory items, address payee, address[] memory signers) private {
        IInferenceCoordinator.Signature[] memory signatures =
            signaturesOf(signers, coordinator.reportDigest(abi.encode(items), payee));
        vm.prank(stranger);
        coordinator.reportSigned(abi.encode(items), payee, signatures);
    }

    function expectRefusal(
        IInferenceCoordinator.Fulfilment[] memory items,
        address payee,
        address[] memory signers,
        bytes memory reason
    ) private {
        IInferenceCoordinator.Signature[] memory signatures =
            signaturesOf(signers, coordinator.reportDigest(abi.encode(items), payee));
        vm.expectRevert(reason);
        coordinator.reportSigned(abi.encode(items), payee, signatures);
    }

    function expectMalformed(bytes memory encoded) private {
        IInferenceCoordinator.Signature[] memory signatures =
            signaturesOf(firstSigners(QUORUM), coordinator.reportDigest(encoded, crowd[0]));
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.ItemsMalformed.selector, encoded.length));
        coordinator.reportSigned(encoded, crowd[0], signatures);
    }

    /// @dev A copy in which these bits of one word are turned over.
    function altered(bytes memory encoded, uint256 word, uint256 bits) private pure returns (bytes memory copy) {
        copy = bytes.concat(encoded);
        assembly ("memory-safe") {
            let place := add(add(copy, 0x20), mul(word, 0x20))
            mstore(place, xor(mload(place), bits))
        }
    }

    /// @dev Signatures of another digest: they give signers that nobody knows.
    function expectForeign(IInferenceCoordinator.Fulfilment[] memory items, address payee, bytes32 digest) private {
        IInferenceCoordinator.Signature[] memory signatures = signaturesOf(firstSigners(QUORUM), digest);
        address recovered =
            ECDSA.recover(coordinator.reportDigest(abi.encode(items), payee), signatures[0].r, signatures[0].vs);
        vm.expectRevert(notOperator(recovered));
        coordinator.reportSigned(abi.encode(items), payee, signatures);
        assertStatus(items[0].requestId, IInferenceCoordinator.Status.Pending);
    }

    function notOperator(address account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IInferenceCoordinator.NotOperator.selector, account);
    }

    function notRising(address previous, address signer) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IInferenceCoordinator.SignersNotRising.selector, previous, signer);
    }

    /// @dev EIP-712 written out: domain, struct hash and what an operator signs.
    function digestOf(IInferenceCoordinator.Fulfilment[] memory items, address payee, uint256 chainId, address verifier)
        private
        pure
        returns (bytes32)
    {
        bytes32 structHash = keccak256(
            abi.encode(keccak256("Report(address operator,bytes items)"), payee, keccak256(abi.encode(items)))
        );
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Sibyl InferenceCoordinator"),
                keccak256("1"),
                chainId,
                verifier
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }
}

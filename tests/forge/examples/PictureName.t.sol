// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PictureName} from "../../../contracts/examples/PictureName.sol";
import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {ExampleTest} from "./ExampleTest.sol";
import {IERC4906} from "@openzeppelin/contracts/interfaces/IERC4906.sol";
import {IERC721Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Base64} from "@openzeppelin/contracts/utils/Base64.sol";

contract PictureNameTest is ExampleTest {
    PictureName private names;
    uint256 private price;

    function setUp() public override {
        super.setUp();
        names = new PictureName(coordinator, modelId);
        price = names.price();
    }

    function test_Mint_TheTokenIsThereWithoutAName() external {
        uint256 before = person.balance;
        vm.prank(person);
        uint256 tokenId = names.mint{value: 1 ether}(cid("cat"), NOW + 1 hours);
        vm.assertEq(before - person.balance, price);
        vm.assertEq(tokenId, 1);
        vm.assertEq(names.ownerOf(1), person);
        vm.assertEq(names.tokenOf(requestOfMint(cid("cat"))), 1);
        (bool named,,) = names.nameOf(1);
        vm.assertFalse(named);
    }

    function test_Mint_GivenTooLittleOrNoCid_ItReverts() external {
        vm.deal(address(names), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, price - 1, price));
        vm.prank(person);
        names.mint{value: price - 1}(cid("cat"), NOW + 1 hours);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.InvalidCid.selector, bytes("cat")));
        vm.prank(person);
        names.mint{value: price}("cat", NOW + 1 hours);
    }

    function test_Answer_TheTokenIsNamed() external {
        bytes32 requestId = mint(cid("cat"));
        vm.expectEmit(address(names));
        emit PictureName.PictureNamed(1, requestId, 281, 9205);
        vm.expectEmit(address(names));
        emit IERC4906.MetadataUpdate(1);
        reportOne(answered(requestId, answerOf(281, 9205)));
        (bool named, uint16 classIndex, uint16 confidence) = names.nameOf(1);
        vm.assertTrue(named);
        vm.assertEq(classIndex, 281);
        vm.assertEq(confidence, 9205);
        vm.assertEq(names.tokenOf(requestId), 0);
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_Answer_EachTokenGetsItsOwnName() external {
        bytes32 first = mint(cid("cat"));
        bytes32 second = mint(cid("dog"));
        vm.prank(operator);
        coordinator.report(two(answered(second, answerOf(207, 5000)), answered(first, answerOf(281, 6000))));
        (, uint16 ofFirst,) = names.nameOf(1);
        (, uint16 ofSecond,) = names.nameOf(2);
        vm.assertEq(ofFirst, 281);
        vm.assertEq(ofSecond, 207);
    }

    function test_Answer_ItFitsItsGas() external {
        assertFits(names, names.CALLBACK_GAS(), mint(cid("cat")), answerOf(281, 9205));
    }

    function test_TokenUri_ItHoldsTheCidAndTheName() external {
        bytes memory rawCid = hex"0155122000112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        bytes32 requestId = mint(rawCid);
        string memory image =
            '{"image":"ipfs://f0155122000112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","name":';
        assertUri(1, string.concat(image, '"not named yet"}'));
        reportOne(answered(requestId, answerOf(281, 9205)));
        assertUri(
            1,
            string.concat(image, '"class 281","attributes":[{"trait_type":"confidence in basis points","value":9205}]}')
        );
    }

    function test_TokenUri_GivenACidOfVersion0_ItIsWrittenAsVersion1() external {
        mint(hex"122000112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
        assertUri(
            1,
            string.concat(
                '{"image":"ipfs://f0170122000112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",',
                '"name":"not named yet"}'
            )
        );
    }

    function test_TokenUri_GivenNoToken_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(IERC721Errors.ERC721NonexistentToken.selector, 1));
        names.tokenURI(1);
        vm.expectRevert(abi.encodeWithSelector(IERC721Errors.ERC721NonexistentToken.selector, 1));
        names.nameOf(1);
    }

    function test_Reclaim_TheTokenIsBurntAndItsMinterPaid() external {
        uint256 before = person.balance;
        bytes32 requestId = mint(cid("cat"));
        vm.prank(person);
        names.transferFrom(person, stranger, 1);
        reportOne(failure(requestId));
        names.reclaim(requestId);
        vm.assertEq(person.balance, before);
        vm.assertEq(names.balanceOf(stranger), 0);
        vm.expectRevert(abi.encodeWithSelector(IERC721Errors.ERC721NonexistentToken.selector, 1));
        names.ownerOf(1);
        // Its number is not given again
        mint(cid("dog"));
        vm.assertEq(names.ownerOf(2), person);
    }

    function test_Reclaim_GivenNoAnswer_TheMinterIsPaid() external {
        uint256 before = person.balance;
        bytes32 requestId = mint(cid("cat"));
        vm.warp(NOW + 1 hours + 1);
        vm.prank(stranger);
        names.reclaim(requestId);
        vm.assertEq(person.balance, before);
        vm.assertEq(names.balanceOf(person), 0);
    }

    function test_Reclaim_GivenANamedToken_ItReverts() external {
        bytes32 requestId = mint(cid("cat"));
        reportOne(success(requestId));
        vm.warp(NOW + 2 hours);
        vm.deal(address(names), 1 ether);
        vm.expectRevert();
        names.reclaim(requestId);
        vm.assertEq(names.ownerOf(1), person);
    }

    function test_Mint_GivenAMinterWhoComesBackIn_TheTokenIsWhole() external {
        // The change is sent when the token is there, so the puppet can already pass it on
        puppet.prepare(
            address(names), abi.encodeWithSignature("transferFrom(address,address,uint256)", puppet, stranger, 1)
        );
        vm.prank(address(puppet));
        names.mint{value: 1 ether}(cid("cat"), NOW + 1 hours);
        vm.assertEq(puppet.breaches(), 1);
        bytes32 requestId = requestOfMint(cid("cat"));
        vm.assertEq(names.tokenOf(requestId), 1);
        reportOne(answered(requestId, answerOf(281, 9205)));
        (bool named,,) = names.nameOf(1);
        vm.assertTrue(named);
        vm.assertEq(names.ownerOf(1), stranger);
    }

    function test_SupportsInterface_ItKnowsErc721AndErc4906() external view {
        vm.assertTrue(names.supportsInterface(0x80ac58cd));
        vm.assertTrue(names.supportsInterface(0x5b5e139f));
        vm.assertTrue(names.supportsInterface(0x49064906));
        vm.assertTrue(names.supportsInterface(0x01ffc9a7));
        vm.assertFalse(names.supportsInterface(0xffffffff));
    }

    function mint(bytes memory imageCid) private returns (bytes32) {
        vm.prank(person);
        names.mint{value: price}(imageCid, NOW + 1 hours);
        return requestOfMint(imageCid);
    }

    function requestOfMint(bytes memory imageCid) private view returns (bytes32) {
        return lastRequest(names, imageCid, names.CALLBACK_GAS(), NOW + 1 hours);
    }

    function assertUri(uint256 tokenId, string memory json) private view {
        string memory expected = string.concat("data:application/json;base64,", Base64.encode(bytes(json)));
        vm.assertEq(bytes(names.tokenURI(tokenId)), bytes(expected));
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {DevnetGlm} from "../../contracts/devnet/DevnetGlm.sol";
import {TestBase} from "./base/Vm.sol";

contract DevnetGlmTest is TestBase {
    DevnetGlm private token;

    address private constant PAYER = address(0xA1);
    address private constant PAYEE = address(0xB2);

    function setUp() external {
        token = new DevnetGlm();
    }

    function test_AnybodyMakesTokens() external {
        vm.prank(PAYEE);
        token.mint(PAYER, 5 ether);
        vm.assertEq(token.balanceOf(PAYER), 5 ether);
        vm.assertEq(token.totalSupply(), 5 ether);
        vm.assertEq(token.decimals(), 18);
    }

    function testFuzz_GivenEnough_ItMovesTokens(uint128 minted, uint128 amount) external {
        vm.assume(amount <= minted);
        token.mint(PAYER, minted);
        vm.prank(PAYER);
        vm.assertTrue(token.transfer(PAYEE, amount));
        vm.assertEq(token.balanceOf(PAYER), minted - amount);
        vm.assertEq(token.balanceOf(PAYEE), amount);
    }

    function testFuzz_GivenTooLittle_ItRevertsInTheWordsThatYagnaKnows(uint128 minted, uint128 more) external {
        vm.assume(more > 0);
        token.mint(PAYER, minted);
        vm.prank(PAYER);
        vm.expectRevert(bytes("transfer amount exceeds balance"));
        bool moved = token.transfer(PAYEE, uint256(minted) + more);
        vm.assertFalse(moved);
    }
}

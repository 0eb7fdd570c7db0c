// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title EtherForcer
/// @notice Mock: forces the ether it is made with on an account, which is not asked.
contract EtherForcer {
    /// @param to Account that gets the ether.
    constructor(address to) payable {
        // PUSH20 to, SELFDESTRUCT: as bytes, since the compiler warns of the word.
        bytes memory creation = abi.encodePacked(hex"73", to, hex"ff");
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            pop(create(callvalue(), add(creation, 0x20), mload(creation)))
        }
    }
}

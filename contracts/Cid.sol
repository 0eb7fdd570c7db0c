// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @title Cid
/// @notice Content identifiers in bytes: their form, and a packing into a digest and one byte.
/// @dev Accepted are version 0 (34 bytes, dag-pb implied) and version 1 (36 bytes) with the raw or dag-pb codec, both
/// with a 32-byte sha2-256 digest. Only the form can be checked on-chain, not that the content exists.
library Cid {
    /// @notice The accepted forms. `None` is any other sequence of bytes.
    enum Form {
        None,
        V0,
        V1Raw,
        V1DagPb
    }

    /// @dev 0x12 (sha2-256) and 0x20 (32 bytes of digest).
    bytes2 private constant V0_PREFIX = 0x1220;
    /// @dev Version 1, codec raw, sha2-256, 32 bytes.
    bytes4 private constant V1_RAW_PREFIX = 0x01551220;
    /// @dev Version 1, codec dag-pb, sha2-256, 32 bytes.
    bytes4 private constant V1_DAG_PB_PREFIX = 0x01701220;

    /// @notice The form of a sequence of bytes.
    /// @param cid Bytes to look at.
    /// @return Their form, `None` when they are not an accepted CID.
    function formOf(bytes calldata cid) internal pure returns (Form) {
        if (cid.length == 36) {
            bytes4 prefix = bytes4(cid);
            if (prefix == V1_RAW_PREFIX) return Form.V1Raw;
            if (prefix == V1_DAG_PB_PREFIX) return Form.V1DagPb;
        } else if (cid.length == 34 && bytes2(cid) == V0_PREFIX) {
            return Form.V0;
        }
        return Form.None;
    }

    /// @notice The digest of a CID whose form was found good.
    /// @param cid CID in bytes.
    /// @return Its last 32 bytes.
    function digestOf(bytes calldata cid) internal pure returns (bytes32) {
        return bytes32(cid[cid.length - 32:]);
    }

    /// @notice The bytes of a CID from its two parts.
    /// @param form Its form, not `None`.
    /// @param digest Its sha2-256 digest.
    /// @return The CID in bytes.
    function join(Form form, bytes32 digest) internal pure returns (bytes memory) {
        if (form == Form.V0) return abi.encodePacked(V0_PREFIX, digest);
        return abi.encodePacked(form == Form.V1Raw ? V1_RAW_PREFIX : V1_DAG_PB_PREFIX, digest);
    }
}

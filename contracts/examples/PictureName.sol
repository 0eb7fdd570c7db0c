// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Cid} from "../Cid.sol";
import {ClassificationAnswer} from "../ClassificationAnswer.sol";
import {InferenceConsumer} from "../InferenceConsumer.sol";
import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {IERC165} from "@openzeppelin/contracts/interfaces/IERC165.sol";
import {IERC4906} from "@openzeppelin/contracts/interfaces/IERC4906.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {Base64} from "@openzeppelin/contracts/utils/Base64.sol";
import {Bytes} from "@openzeppelin/contracts/utils/Bytes.sol";
import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";

/// @title PictureName
/// @notice Example: an NFT of a picture that is named after what a classifier sees in it.
/// @dev To mint is to ask. The token is there at once and gets its name with the callback. A picture that could not be
/// looked at leaves no token behind: `reclaim` burns it, whoever holds it then, and pays its minter back. So a token
/// without a name is not worth buying.
contract PictureName is ERC721, IERC4906, InferenceConsumer {
    using Cid for bytes;
    using Strings for uint256;

    /// @dev What a token is about. Class and confidence are zero until it is named.
    struct Picture {
        bytes32 digest;
        Cid.Form form;
        bool named;
        uint16 classIndex;
        uint16 confidenceBps;
    }

    /// @notice Gas asked for each callback; naming a token takes about 25,000.
    uint256 public constant CALLBACK_GAS = 50_000;

    /// @notice Classifier that is asked. Its manifest has the labels that go with the class indices.
    uint256 public immutable modelId;

    /// @notice Number of tokens ever minted, which is the id of the last.
    uint256 public lastTokenId;

    /// @notice Token that an open request will name.
    mapping(bytes32 requestId => uint256 tokenId) public tokenOf;

    mapping(uint256 tokenId => Picture picture) private _pictures;

    /// @notice A token has its name.
    event PictureNamed(
        uint256 indexed tokenId, bytes32 indexed requestId, uint16 indexed classIndex, uint16 confidenceBps
    );

    /// @param coordinator_ Coordinator to ask.
    /// @param modelId_ Classifier to ask.
    constructor(IInferenceCoordinator coordinator_, uint256 modelId_)
        ERC721("Named pictures", "NAMED")
        InferenceConsumer(coordinator_)
    {
        modelId = modelId_;
    }

    /// @notice Mints a token for a picture and has it named. Send at least `price()`; what is left over comes back.
    /// @param imageCid CID of the picture.
    /// @param deadline Last second, Unix time, for the name.
    /// @return tokenId Id of the token, which is the caller's.
    function mint(bytes calldata imageCid, uint256 deadline) external payable returns (uint256 tokenId) {
        (bytes32 requestId, uint256 rest) = _requestForSender(modelId, imageCid, CALLBACK_GAS, deadline);
        tokenId = ++lastTokenId;
        tokenOf[requestId] = tokenId;
        // The coordinator took the CID, so it has a form and a digest
        _pictures[tokenId].digest = imageCid.digestOf();
        _pictures[tokenId].form = imageCid.formOf();
        _mint(msg.sender, tokenId);
        _pay(msg.sender, rest);
    }

    /// @notice What the picture of a token was found to show.
    /// @param tokenId Token to read.
    /// @return named Whether it has a name; the rest is zero until then.
    /// @return classIndex Index of the class in the model's manifest.
    /// @return confidenceBps The model's confidence in basis points.
    function nameOf(uint256 tokenId) external view returns (bool named, uint16 classIndex, uint16 confidenceBps) {
        _requireOwned(tokenId);
        Picture storage picture = _pictures[tokenId];
        return (picture.named, picture.classIndex, picture.confidenceBps);
    }

    /// @notice What `mint` costs now, in wei.
    /// @return Wei to send.
    function price() external view returns (uint256) {
        return coordinator.quote(modelId, CALLBACK_GAS);
    }

    /// @notice Metadata of a token, as a `data:` address, with the picture as an `ipfs:` one.
    /// @dev The CID is written as version 1 in base 16, the one text form that needs no arithmetic; a CID of version 0
    /// is the dag-pb one with the same digest.
    /// @param tokenId Token to describe.
    /// @return The address.
    function tokenURI(uint256 tokenId) public view override returns (string memory) {
        _requireOwned(tokenId);
        Picture storage picture = _pictures[tokenId];
        Cid.Form form = picture.form == Cid.Form.V0 ? Cid.Form.V1DagPb : picture.form;
        string memory digits = Strings.toHexString(Cid.join(form, picture.digest));
        // JSON is easier to read without escapes
        // solhint-disable quotes, gas-small-strings
        string memory found = picture.named
            ? string.concat(
                '"class ',
                uint256(picture.classIndex).toString(),
                '","attributes":[{"trait_type":"confidence in basis points","value":',
                uint256(picture.confidenceBps).toString(),
                "}]"
            )
            : '"not named yet"';
        bytes memory json =
            bytes(string.concat('{"image":"ipfs://f', string(Bytes.slice(bytes(digits), 2)), '","name":', found, "}"));
        // solhint-enable quotes, gas-small-strings
        return string.concat("data:application/json;base64,", Base64.encode(json));
    }

    /// @notice Whether an ERC-165 interface is implemented; ERC-4906 announces names that come later.
    /// @param interfaceId Interface to look for.
    /// @return True when it is.
    function supportsInterface(bytes4 interfaceId) public view override(ERC721, IERC165) returns (bool) {
        // ERC-4906 fixes its id; it has no function of its own
        return interfaceId == bytes4(0x49064906) || super.supportsInterface(interfaceId);
    }

    /// @inheritdoc InferenceConsumer
    function _onAnswer(bytes32 requestId, bytes calldata, bytes calldata answer) internal override {
        (uint16 classIndex, uint16 confidenceBps) = ClassificationAnswer.top(answer);
        uint256 tokenId = tokenOf[requestId];
        delete tokenOf[requestId];
        Picture storage picture = _pictures[tokenId];
        picture.named = true;
        picture.classIndex = classIndex;
        picture.confidenceBps = confidenceBps;
        emit PictureNamed(tokenId, requestId, classIndex, confidenceBps);
        emit MetadataUpdate(tokenId);
    }

    /// @inheritdoc InferenceConsumer
    function _onReturn(bytes32 requestId) internal override {
        uint256 tokenId = tokenOf[requestId];
        delete tokenOf[requestId];
        delete _pictures[tokenId];
        _burn(tokenId);
    }
}

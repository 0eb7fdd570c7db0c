// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceCoordinator} from "../../../contracts/InferenceCoordinator.sol";
import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {TestBase} from "../base/Vm.sol";

/// @notice A coordinator with one model and one pending request. Functions named `check_` are for halmos, which tries
/// every value of their parameters at once; forge does not run them.
abstract contract SymbolicTest is TestBase {
    address internal constant ETHER = address(0);
    address internal constant OWNER = address(0x1001);
    address internal constant OPERATOR = address(0x1002);
    address internal constant SECOND_OPERATOR = address(0x1003);
    address internal constant PUBLISHER = address(0x1004);
    address internal constant PAYOUT = address(0x1005);
    address internal constant PERSON = address(0x1006);
    address internal constant STRANGER = address(0x1007);

    uint256 internal constant NOW = 1_900_000_000;
    uint256 internal constant DEADLINE = NOW + 1 hours;
    uint256 internal constant CANCEL_WINDOW = 5 minutes;
    uint256 internal constant PRICE = 0.001 ether;
    uint256 internal constant MODEL = 1;

    InferenceCoordinator internal coordinator;
    bytes32 internal requestId;

    /// @dev What nobody may change who has no right to.
    struct View {
        IInferenceCoordinator.Request request;
        uint256 held;
        uint256 operatorBalance;
        uint256 personBalance;
        uint256 personEther;
        uint256 earnings;
    }

    function setUp() public virtual {
        _setUp(1);
    }

    function _setUp(uint256 quorum) internal {
        vm.warp(NOW);
        address[] memory operators = new address[](quorum);
        operators[0] = OPERATOR;
        if (quorum == 2) operators[1] = SECOND_OPERATOR;
        coordinator = new InferenceCoordinator(OWNER, operators, quorum, CANCEL_WINDOW);
        uint256 fee = coordinator.publishingFee();
        vm.deal(PUBLISHER, fee);
        vm.prank(PUBLISHER);
        coordinator.publishModel{value: fee}(_cid(1), PRICE, ETHER, PAYOUT);
        vm.deal(PERSON, 10 ether);
        vm.prank(PERSON);
        requestId = coordinator.request{value: PRICE}(MODEL, _cid(2), 0, DEADLINE);
    }

    function _cid(uint256 digest) internal pure returns (bytes memory) {
        return abi.encodePacked(hex"01551220", digest);
    }

    function _terms() internal pure returns (IInferenceCoordinator.RequestTerms memory) {
        return IInferenceCoordinator.RequestTerms({
            nonce: 0,
            modelId: MODEL,
            imageCid: _cid(2),
            payment: PRICE,
            callbackGas: 0,
            deadline: DEADLINE,
            createdAt: NOW
        });
    }

    /// @dev A report of one item; `failure` is 0 for an answer.
    function _items(uint256 failure, bytes memory resultCid, bytes memory answer)
        internal
        view
        returns (IInferenceCoordinator.Fulfilment[] memory items)
    {
        vm.assume(failure <= uint256(type(IInferenceCoordinator.FailureReason).max));
        items = new IInferenceCoordinator.Fulfilment[](1);
        items[0] = IInferenceCoordinator.Fulfilment({
            requestId: requestId,
            failure: IInferenceCoordinator.FailureReason(failure),
            resultCid: resultCid,
            answer: answer
        });
    }

    function _look() internal view returns (View memory) {
        return View({
            request: coordinator.requestOf(requestId),
            held: address(coordinator).balance,
            operatorBalance: coordinator.balanceOf(ETHER, OPERATOR),
            personBalance: coordinator.balanceOf(ETHER, PERSON),
            personEther: PERSON.balance,
            earnings: coordinator.earningsOf(MODEL)
        });
    }

    function _assertUnchanged(View memory before) internal view {
        View memory then = _look();
        assert(then.request.status == before.request.status);
        assert(then.request.failure == before.request.failure);
        assert(then.request.requester == before.request.requester);
        assert(then.request.payment == before.request.payment);
        assert(then.request.deadline == before.request.deadline);
        assert(then.held == before.held);
        assert(then.operatorBalance == before.operatorBalance);
        assert(then.personBalance == before.personBalance);
        assert(then.personEther == before.personEther);
        assert(then.earnings == before.earnings);
    }

    function _call(address caller, bytes memory data) internal returns (bool success) {
        vm.prank(caller);
        (success,) = address(coordinator).call(data);
    }

    function _warp(uint256 time) internal {
        vm.assume(time >= NOW && time < 2 ** 40);
        vm.warp(time);
    }
}

import Foundation
import KeelCore
import KeelGraph
import Testing

@Suite struct SoftmaxCrossEntropyTests {
  private func losses(_ logits: [Double], _ labels: [Double], classes: Int) throws -> [Double] {
    try interpret(["x": logits, "labels": labels]) {
      $0.append(
        .softmaxCrossEntropy(SoftmaxCrossEntropy()),
        [$0.input("x", f64(labels.count, classes)), $0.input("labels", i32(labels.count))])[0]
    }
  }

  private func hits(_ logits: [Double], _ labels: [Double], classes: Int) throws -> [Double] {
    try interpret(["x": logits, "labels": labels]) {
      $0.append(
        .topOne(TopOne()), [$0.input("x", f64(labels.count, classes)), $0.input("labels", i32(labels.count))])[0]
    }
  }

  @Test func textbookValues() throws {
    let got = try losses([0, 0, 0, 0, 1, 2, 3, 4], [2, 0], classes: 4)
    let total = log(exp(1) + exp(2) + exp(3) + exp(4.0))
    #expect(distance(got, [log(4), total - 1]) < 1e-14)
  }

  @Test func largeLogitsStayFinite() throws {
    #expect(try losses([1e4, 0, -1e4], [0], classes: 3) == [0])
    #expect(try losses([1e4, 0, -1e4], [2], classes: 3) == [2e4])
    #expect(try losses([-1e300, -1e300], [1], classes: 2) == [log(2)])
    // A class that is ruled out costs nothing unless it is the label.
    #expect(try losses([0, -.infinity, 0], [0], classes: 3) == [log(2)])
    #expect(try losses([0, -.infinity, 0], [1], classes: 3) == [.infinity])
    let gradient = try interpret(["x": [1e4, 0, -1e4], "labels": [1]]) { b in
      let x = b.input("x", f64(1, 3))
      let loss = b.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [x, b.input("labels", i32(1))])[0].sum()
      return b.gradients(of: loss, withRespectTo: [x])[0]
    }
    #expect(gradient == [1, -1, 0])
  }

  @Test func gradient() throws {
    for classes in [1, 2, 5] {
      let trace = { (b: GraphBuilder, x: [Tensor]) in
        b.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [x[0], b.input("labels", i32(4))])[0]
      }
      let labels = [0, 1, 2, 4].map { Double(min($0, classes - 1)) }
      if classes == 1 {
        // One class is certain: loss and slope are 0.
        #expect(try losses([3, -2], [0, 0], classes: 1) == [0, 0])
      } else {
        try expectGradients(["x": f64(4, classes)], domains: ["x": -3...3], fixed: ["labels": labels], trace: trace)
      }
    }
  }

  @Test func secondDerivatives() throws {
    try expectGradients(["x": f64(4, 3)], fixed: ["labels": [0, 1, 2, 1]]) { b, x in
      let loss = b.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [x[0], b.input("labels", i32(4))])[0]
      return b.gradients(of: loss.elementwise(.square).sum(), withRespectTo: [x[0]])[0]
    }
  }

  @Test func backwardIsDifferentiatedInBothRealOperands() throws {
    try expectGradients(["dloss": f64(4), "x": f64(4, 3)], fixed: ["labels": [0, 1, 2, 1]]) { b, x in
      b.append(.softmaxCrossEntropyBackward(SoftmaxCrossEntropyBackward()), x + [b.input("labels", i32(4))])[0]
    }
  }

  @Test func theFirstOfEqualMaximaCounts() throws {
    #expect(try hits([1, 3, 2, 1, 3, 2], [1, 2], classes: 3) == [1, 0])
    #expect(try hits([5, 5, 1, 5, 5, 1], [0, 1], classes: 3) == [1, 0])
    #expect(try hits([0, 0, 0, 0, 0, 0], [0, 2], classes: 3) == [1, 0])
    #expect(try hits([-1, -.infinity], [0], classes: 2) == [1])
    // Nothing is right about NaN.
    #expect(try hits([.nan, 1, 0], [1], classes: 3) == [0])
  }

  @Test func topOneHasNoGradient() throws {
    let zeros = try interpret(["x": [1, 2, 3, 4], "labels": [0, 1]]) { b in
      let x = b.input("x", f64(2, 2))
      return b.gradients(
        of: b.append(.topOne(TopOne()), [x, b.input("labels", i32(2))])[0].sum(), withRespectTo: [x])[0]
    }
    #expect(zeros == [0, 0, 0, 0])
  }

  @Test func typeRules() throws {
    let loss = Operation.softmaxCrossEntropy(SoftmaxCrossEntropy())
    let (backward, top) = (
      Operation.softmaxCrossEntropyBackward(SoftmaxCrossEntropyBackward()), Operation.topOne(TopOne())
    )
    #expect(try outputTypes(loss, f32(8, 10), i32(8)) == [f32(8)])
    #expect(try outputTypes(top, f64(8, 10), i32(8)) == [f64(8)])
    #expect(try outputTypes(backward, f32(8), f32(8, 10), i32(8)) == [f32(8, 10)])
    for (operation, name) in [(loss, "softmaxCrossEntropy"), (top, "topOne")] {
      let text = "[\(name)] expects logits [N, K] and labels i32[N], got "
      #expect(refusal(operation, f32(8, 10), i32(7)) == text + "f32[8, 10] and i32[7]")
      #expect(refusal(operation, f32(8, 10), f32(8)) == text + "f32[8, 10] and f32[8]")
      #expect(refusal(operation, f32(8), i32(8)) == text + "f32[8] and i32[8]")
      #expect(refusal(operation, f32(8, 0), i32(8)) == text + "f32[8, 0] and i32[8]")
      #expect(refusal(operation, i32(8, 2), i32(8)) == text + "i32[8, 2] and i32[8]")
      #expect(refusal(operation, f32(8, 2)) == "[\(name)] expects 2 operands, got 1")
    }
    func merged(_ hasTopOne: Bool) -> KeelGraph.Operation {
      .softmaxCrossEntropyWithGradient(SoftmaxCrossEntropyWithGradient(hasTopOne: hasTopOne))
    }
    #expect(try outputTypes(merged(false), f64(8), f64(8, 10), i32(8)) == [f64(8), f64(8, 10)])
    #expect(try outputTypes(merged(true), f32(8), f32(8, 10), i32(8)) == [f32(8), f32(8, 10), f32(8)])
    for (operation, name) in [
      (backward, "softmaxCrossEntropyBackward"), (merged(true), "softmaxCrossEntropyWithGradient"),
    ] {
      #expect(
        refusal(operation, f32(7), f32(8, 10), i32(8))
          == "[\(name)] expects a cotangent a row, got f32[7] for f32[8, 10]")
      #expect(
        refusal(operation, f32(8), f32(8, 10), i32(7))?.contains("expects logits [N, K] and labels i32[N]") == true)
    }
  }
}

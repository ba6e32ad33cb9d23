import Foundation
import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  static func softmax(_ dtype: DType) -> [KernelCase] {
    var cases: [KernelCase] = []
    let shapes: [(rows: Int, classes: Int)] = [
      (1, 1), (1, 10), (3, 2), (7, 10), (32, 10), (33, 8), (9, 17), (5, 1000), (257, 7), (40, 300), (1200, 10),
    ]
    for (rows, classes) in shapes {
      let labels = CaseInput.Source.integers(0..<classes)
      cases += kinds(dtype, "", rows, classes, .normal(offset: 0, scale: 3), labels)
    }
    // Few distinct values, so that maxima tie: the first counts.
    cases += kinds(dtype, "ties", 65, 10, .integers(0..<3), .integers(0..<10))
    cases += kinds(dtype, "huge logits", 65, 10, .normal(offset: 0, scale: 1e4), .integers(0..<10))
    cases += kinds(dtype, "offset logits", 65, 10, .normal(offset: 1e4, scale: 1), .integers(0..<10))
    cases += kinds(
      dtype, "labels out of range", 9, 10, .normal,
      .values([0, -1, 10, 3, 2_147_483_647, -2_147_483_648, 9, 11, 5]))
    cases += kinds(
      dtype, "rows with NaN", 9, 10, .indexed { $0 % 23 == 0 ? .nan : Double($0 % 7) }, .integers(0..<10))
    return cases
  }

  /// Loss, gradient and first choice, each by itself, and all that one kernel makes.
  private static func kinds(
    _ dtype: DType, _ title: String, _ rows: Int, _ classes: Int, _ logits: CaseInput.Source, _ labels: CaseInput.Source
  ) -> [KernelCase] {
    let label = "\(rows)×\(classes)" + (title.isEmpty ? "" : " \(title)")
    let inputs = [
      CaseInput("x", [rows, classes], logits), CaseInput("labels", [rows], labels, dtype: .int32),
      CaseInput("dloss", [rows]),
    ]
    // The exponentials' sum, in eight lanes: 3 ulp of exp, and what the rounding of its argument d makes of it, which is
    // at most the entropy of the row, log K, half an epsilon each.
    let sum = 3 + log(Double(classes)) / 2 + Bound.positiveSum(depth: (classes + 7) / 8 + 3)
    let bounds = [
      // The logarithm turns the sum's relative error into one of 1, and has 3 ulp of its own; two roundings follow.
      "loss": Bound(eps: sum + 4, of: .terms),
      // A quotient and a product more; the difference at the label rounds to the digits of the result.
      "dx": Bound(eps: sum + 7, of: .terms),
      "correct": .exact,
    ]
    func kernelCase(
      _ title: String, _ inputs: [CaseInput], _ build: @escaping @Sendable (CaseTensors) -> [String: Tensor]
    ) -> KernelCase {
      KernelCase(
        SoftmaxProblem.family, "\(label) \(title)", dtype, inputs: inputs, bound: .exact, build: build
      ).bounds(bounds).fused()
    }
    return [
      kernelCase("loss", Array(inputs[..<2])) { t in ["loss": loss(t)] }.terms { t in ["loss": lossTerms(t)] },
      kernelCase("gradient", inputs) { t in ["dx": gradient(t)] }.terms { t in ["dx": gradientTerms(t)] },
      kernelCase("top one", Array(inputs[..<2])) { t in
        ["correct": t.builder.append(.topOne(TopOne()), [t["x"], t["labels"]])[0]]
      },
    ]
      + [false, true].map { hasTopOne in
        kernelCase("with gradient" + (hasTopOne ? ", top one" : ""), inputs) { t in
          let results = t.builder.append(
            .softmaxCrossEntropyWithGradient(SoftmaxCrossEntropyWithGradient(hasTopOne: hasTopOne)),
            [t["dloss"], t["x"], t["labels"]])
          return Dictionary(uniqueKeysWithValues: zip(["loss", "dx", "correct"], results))
        }.terms { t in ["loss": lossTerms(t), "dx": gradientTerms(t)] }
      }
  }

  private static func lossTerms(_ t: CaseTensors) -> Tensor {
    let total = distances(t).elementwise(.exp).sum(axes: [1]).elementwise(.log)
    return 1.0.tensor(in: t.builder) + total + (loss(t) - total).magnitude
  }

  private static func gradientTerms(_ t: CaseTensors) -> Tensor {
    let (d, dloss) = (distances(t), t["dloss"].magnitude.reshape([t["dloss"].shape[0], 1]))
    let exponentials = d.elementwise(.exp)
    let softmax = exponentials / exponentials.sum(axes: [1], keepingDimensions: true)
    return dloss * softmax * (d.magnitude + 1.0) + gradient(t).magnitude
  }

  private static func loss(_ t: CaseTensors) -> Tensor {
    t.builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [t["x"], t["labels"]])[0]
  }

  private static func gradient(_ t: CaseTensors) -> Tensor {
    let operands = [t["dloss"], t["x"], t["labels"]]
    return t.builder.append(.softmaxCrossEntropyBackward(SoftmaxCrossEntropyBackward()), operands)[0]
  }

  /// Of the logits to the largest of their row.
  private static func distances(_ t: CaseTensors) -> Tensor {
    t["x"] - t["x"].max(axes: [1], keepingDimensions: true)
  }
}

import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  /// Outer, middle and inner axes; extents around the vectors of 8, the runs of 32 and the blocks of 64.
  private static let reductions: [(shape: Shape, axes: [Int])] = [
    ([3, 5, 7], [0]), ([3, 5, 7], [1]), ([3, 5, 7], [2]), ([3, 5, 7], [0, 1, 2]), ([3, 5, 7], [0, 2]),
    ([1000, 3], [0]),
    ([3, 1000], [1]), ([16, 17, 33], [1]), ([17, 64, 40], [1]), ([33, 31], [1]), ([33, 32], [1]), ([33, 33], [1]),
    ([17, 2049], [1]), ([65, 8], [0]), ([64, 9], [0]), ([129, 17], [0]), ([300, 64], [0]), ([2, 3], [1]),
    ([2], [0]), ([7], [0]), ([31], [0]),
    ([100_003], [0]), ([16_385], [0]), ([2, 20_000, 3], [1]), ([20_000, 9], [0]), ([70, 300], [0]),
    ([600, 520], [0]), ([2, 5000, 20], [1]),
  ]

  static func reduce(_ dtype: DType) -> [KernelCase] {
    var cases: [KernelCase] = []
    for (shape, axes) in reductions {
      let count = axes.map { shape[$0] }.reduce(1, *)
      cases.append(
        KernelCase(
          ReductionProblem.family, "sum of \(shape) over \(axes)", dtype, inputs: [CaseInput("x", shape)],
          bound: Bound(eps: Bound.centredSum(of: count, block: 64), of: .terms)
        ) { t in ["y": t["x"].sum(axes: axes)] }
        .terms { t in ["y": t["x"].magnitude.sum(axes: axes)] })
      cases.append(
        KernelCase(
          ReductionProblem.family, "max of \(shape) over \(axes)", dtype, inputs: [CaseInput("x", shape)], bound: .exact
        ) {
          t in ["y": t["x"].max(axes: axes)]
        })
    }
    // Nothing cancels: a plain float sum of this many would have lost three digits. Blocks of 64 are reduced first.
    cases.append(
      KernelCase(
        ReductionProblem.family, "sum of [100003], all positive", dtype,
        inputs: [CaseInput("x", [100_003], .uniform(0...1))],
        bound: Bound(eps: Bound.positiveSum(depth: 64 + 100_003 / 64), of: .each)
      ) { t in ["y": t["x"].sum()] })
    cases.append(
      KernelCase(
        ReductionProblem.family, "sum of [100003, 9] over [0], all positive", dtype,
        inputs: [CaseInput("x", [100_003, 9], .uniform(0...1))],
        bound: Bound(eps: Bound.positiveSum(depth: 64 + 100_003 / 64), of: .each)
      ) { t in ["y": t["x"].sum(axes: [0])] })
    for shape: Shape in [[7, 45], [45, 16], [20_001, 1]] {
      for special in [Double.nan, -.infinity, .infinity] {
        cases.append(
          KernelCase(
            ReductionProblem.family, "max of \(shape) with \(special)", dtype,
            inputs: [
              CaseInput(
                "x", shape, .indexed { $0 % 37 == 36 || special == -.infinity ? special : -5 - Double($0 % 11) })
            ],
            bound: .exact
          ) { t in ["rows": t["x"].max(axes: [0]), "columns": t["x"].max(axes: [1])] })
      }
    }
    return cases
  }
}

import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  static func affineProduct(_ dtype: DType) -> [KernelCase] {
    // Around the vectors of 8, the blocks of 256 and the 16 shares of the channels.
    [(1, 1), (1, 8), (17, 7), (16, 9), (33, 31), (784, 32), (5, 257), (97, 300), (3, 4099)].map { channels, columns in
      let inputs = [
        CaseInput("q", [channels, columns]), CaseInput("w", [channels, columns]), CaseInput("s", [columns]),
        CaseInput("scale", [channels]), CaseInput("shift", [channels]),
      ]
      let sum = Bound(eps: 1 + Bound.centredSum(of: columns, block: 32), of: .terms)
      return KernelCase(
        AffineProductProblem.family, "\(channels)×\(columns)", dtype, inputs: inputs, bound: sum
      ) { t in
        let results = t.builder.append(
          .affineProductGradient(AffineProductGradient()), [t["q"], t["w"], t["s"], t["scale"], t["shift"]])
        return ["dw": results[0], "dscale": results[1], "dshift": results[2]]
      }
      .bounds(["dw": Bound(eps: 1.5, of: .terms)])
      .terms { t in
        let (q, w, s) = (t["q"].magnitude, t["w"].magnitude, t["s"].magnitude)
        let rows: Shape = [channels, 1]
        return [
          "dw": t["scale"].magnitude.reshape(rows) * q + t["shift"].magnitude.reshape(rows) * s,
          "dscale": (w * q).sum(axes: [1]), "dshift": (w * s).sum(axes: [1]),
        ]
      }.fused()
    }
  }
}

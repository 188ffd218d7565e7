"""What other engines make of the shipped network: the table of lesson 09.

python scripts/engine_table.py [--real FOLDER]

Needs `pip install echomotion[fast] openvino`; OpenVINO's row is left out where it is missing. Every engine has one core, and
their rounds take turns. `--real`: a folder of .npz with frames (T, H, W), whose outlines are compared as well as the
phantoms' and the cine's."""
import argparse
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from echomotion.data import Clip, example_clip, resize_clip, whole_file
from echomotion.live import OnnxModel, export_onnx
from echomotion.phantom import phantom_clip
from echomotion.train import at_phase, dice, load_model

OUT = Path(__file__).resolve().parents[1]/'echomotion'/'weights'/'engines.csv'
FIRST = 63_000_000   # seeds of phantoms that nothing was chosen on


def eight_bits(exact, path, frames):
    "The exported network with convolutions in 8-bit whole numbers: a scale for each channel, calibrated on `frames`"
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):
        def __init__(self): self.left = iter(frames)
        def get_next(self): return {'frames': f[None]} if (f := next(self.left, None)) is not None else None

    ready = path.with_name('ready.onnx')
    quant_pre_process(str(exact), str(ready), skip_symbolic_shape=True)
    quantize_static(str(ready), str(path), Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
                    op_types_to_quantize=['Conv'], activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return OnnxModel(path, threads=1)


def openvino_looks(path):
    "The exported network on OpenVINO: as it is, and asked for bfloat16; none where it is not installed"
    try: import openvino
    except ImportError: return {}
    core = openvino.Core()
    def look(kind):
        net = core.compile_model(str(path), 'CPU', {'INFERENCE_NUM_THREADS': 1, 'INFERENCE_PRECISION_HINT': kind})
        return lambda frames: at_phase(*(np.concatenate(v) for v in zip(*[net({'frames': frames[i:i + 8]}).to_tuple()
                                                                        for i in range(0, len(frames), 8)])))
    return {'OpenVINO': look('f32'), 'OpenVINO, bfloat16': look('bf16')}


def deeplab(size):
    from torchvision.models.segmentation import deeplabv3_resnet50
    net = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=1).eval()
    @torch.inference_mode()
    def look(frames): return net(torch.from_numpy(frames)[:, None].float().div(255).expand(-1, 3, -1, -1))['out']
    return look


def milliseconds(looks, frames, rounds=9):
    "A frame alone and of eight, the median of rounds in which the engines take turns"
    took = {(k, n): [] for k in looks for n in (1, 8)}
    for _ in range(rounds + 1):
        for k, look in looks.items():
            for n in (1, 8):
                start = time.perf_counter(); look(frames[:n])
                took[k, n].append(1000*(time.perf_counter() - start)/n)
    return {k: [float(np.median(took[k, n][1:])) for n in (1, 8)] for k in looks}


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--hearts', type=int, default=100)
    ask.add_argument('--real', type=Path)
    args = ask.parse_args()
    torch.set_num_threads(1)
    model = load_model(device='cpu'); size = model.config.size
    model = replace(model, config=replace(model.config, precision='fp32'))
    phantom = lambda i: phantom_clip(FIRST + i, size=size, n_frames=4).clip.frames
    hearts = np.concatenate([phantom(i) for i in range(args.hearts)])
    real = [example_clip(), *(Clip(np.load(p)['frames'], 50., p.stem) for p in sorted(args.real.glob('*.npz') if args.real else ()))]
    real = np.concatenate([resize_clip(c, size).frames for c in real])
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(model, Path(folder)/'net.onnx')
        calibration = np.concatenate([phantom(1000 + i) for i in range(24)])
        looks = {'DeepLabV3-ResNet50, PyTorch': deeplab(size), 'PyTorch': model.predict,
                 'ONNX Runtime': OnnxModel(path, threads=1).predict,
                 'ONNX Runtime, 8-bit whole numbers': eight_bits(path, Path(folder)/'eight.onnx', calibration).predict,
                 **openvino_looks(path)}
        ms = milliseconds(looks, hearts)
        found = {k: [look(x) > .5 for x in (hearts, real)] for k, look in looks.items() if 'DeepLab' not in k}
    same = {k: [dice(a, b).mean() for a, b in zip(v, found['PyTorch'])] for k, v in found.items()}
    rows = [[k, *ms[k], *same.get(k, (np.nan, np.nan))] for k in looks]
    table = pd.DataFrame(rows, columns=['engine', 'ms_alone', 'ms_of_eight', 'dice_phantoms', 'dice_real'])
    has = [name for name in ('avx512', 'bf16') if name in Path('/proc/cpuinfo').read_text()] if platform.system() == 'Linux' else []
    table['machine'] = f'{platform.machine()}, {"with " + " and ".join(has) if has else "without AVX-512"}'
    with whole_file(OUT) as f: table.to_csv(f, index=False, float_format='%.4f')
    print(f'{len(hearts)} frames of phantoms, {len(real)} real ones\n{table.to_string(index=False)}')


if __name__ == '__main__': main()

def save_to(folder, worker):
    return {"project": f"{folder}/{worker}", "name": "predict"}
